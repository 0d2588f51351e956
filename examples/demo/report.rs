//! What nodes report: one line of JSON on their standard output for each thing that happens.

use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) node: String,
    pub(crate) what: What,
    /// The payment's key. Empty where it is about the node.
    pub(crate) key: String,
    /// Whether the payment is one behind the layer.
    pub(crate) guarded: bool,
}

impl Report {
    pub(crate) fn of_node(name: &str, what: What) -> Self {
        Self { node: name.to_owned(), what, key: String::new(), guarded: true }
    }

    /// As its node: the supervisor reads it.
    pub(crate) fn print(&self) {
        println!("{}", json!(self));
    }
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// The handler starts.
    Run,
    Charged,
    /// An earlier run of the payment has charged it, and the bank knows that by the payment's id.
    NotChargedAgain,
    /// The handler has answered.
    Ended,
    /// The layer: the first answer once more.
    Replayed,
    /// The layer: 409, a run is in progress.
    Refused,
    /// The layer: another answer of its own.
    Rejected,
    /// The client has left before its answer.
    HungUp,
    /// The node asks to be killed here.
    KillMe,
    Up {
        process: u32,
        port: u16,
    },
    Killed {
        process: u32,
    },
}
