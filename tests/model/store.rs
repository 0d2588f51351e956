//! The store: one value under one key, and the commands that change it, each in one atomic step.

use crate::rules::Rules;

/// How long a claim lives unless renewed, in ticks.
pub(crate) const LEASE: u8 = 3;
/// The retention: longer than anything that happens here, so it does not count down.
pub(crate) const FOREVER: u8 = u8::MAX;

/// Names a claim: who made it, in which of its rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) request: u8,
    pub(crate) round: u8,
}

/// What a run answered. Every run answers something else, so its token tells one record from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) run: Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Absent,
    /// A claim. It is over when no tick is `left`. `stray`: written by a command that its sender had given up.
    InProgress {
        token: Token,
        left: u8,
        stray: bool,
    },
    /// Kept for the retention, so for ever.
    Completed(Record),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Command {
    Claim,
    /// Renews to the lease.
    Renew,
    /// Renews to the retention: at most once.
    Extend,
    Complete,
    Release,
    Get,
}

/// A command on its way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Message {
    pub(crate) command: Command,
    pub(crate) token: Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Acquired,
    InProgress {
        holder: Token,
    },
    Completed(Record),
    Held,
    Lost,
    /// A release was carried out, or nothing is stored.
    Nothing,
    /// Says nothing about whether the command was executed.
    Error,
}

impl Value {
    /// A claim that still counts.
    pub(crate) fn claim(self) -> Option<(Token, u8)> {
        match self {
            Self::InProgress { token, left, .. } if left > 0 => Some((token, left)),
            _ => None,
        }
    }

    pub(crate) fn tick(&mut self) {
        if let Self::InProgress { left, .. } = self {
            count_down(left);
        }
    }

    /// The table of `Backend`, cell by cell.
    pub(crate) fn execute(&mut self, message: Message, stray: bool, rules: &Rules) -> Answer {
        if rules.expired_is_absent && matches!(self, Self::InProgress { left: 0, .. }) {
            *self = Self::Absent;
        }
        let Message { command, token } = message;
        match command {
            Command::Claim => self.claimed_by(token, stray, rules),
            Command::Renew => self.renewed_by(token, LEASE, rules),
            Command::Extend => self.renewed_by(token, FOREVER, rules),
            Command::Complete => self.completed_by(token, rules),
            Command::Release => {
                if matches!(*self, Self::InProgress { token: holder, .. } if holder == token || !rules.release_compares_tokens)
                {
                    *self = Self::Absent;
                }
                Answer::Nothing
            }
            Command::Get => match *self {
                Self::Absent => Answer::Nothing,
                Self::InProgress { token: holder, .. } => Answer::InProgress { holder },
                Self::Completed(record) => Answer::Completed(record),
            },
        }
    }

    fn claimed_by(&mut self, claimer: Token, stray: bool, rules: &Rules) -> Answer {
        match self {
            Self::Absent => {
                let left = if rules.claim_lives_a_lease { LEASE } else { FOREVER };
                *self = Self::InProgress { token: claimer, left, stray };
                Answer::Acquired
            }
            Self::InProgress { token, left, .. } if *token == claimer && rules.own_claim_is_recognised => {
                if !rules.own_claim_keeps_its_deadline {
                    *left = LEASE;
                }
                Answer::Acquired
            }
            Self::InProgress { token, .. } => Answer::InProgress { holder: *token },
            Self::Completed(record) => Answer::Completed(*record),
        }
    }

    fn renewed_by(&mut self, holder: Token, term: u8, rules: &Rules) -> Answer {
        match self {
            Self::InProgress { token, left, .. } if *token == holder || !rules.renew_compares_tokens => {
                *left = term;
                Answer::Held
            }
            _ => Answer::Lost,
        }
    }

    fn completed_by(&mut self, holder: Token, rules: &Rules) -> Answer {
        match *self {
            Self::InProgress { token, .. } if token != holder && rules.complete_compares_tokens => Answer::Lost,
            Self::Completed(record) if record.run == holder => Answer::Held,
            Self::Completed(_) if rules.complete_keeps_a_record => Answer::Lost,
            _ => {
                *self = Self::Completed(Record { run: holder });
                Answer::Held
            }
        }
    }
}

/// One tick less, unless it is for ever.
pub(crate) fn count_down(left: &mut u8) {
    if *left != FOREVER {
        *left = left.saturating_sub(1);
    }
}
