//! Prints the public API that the rustdoc JSON file named by the only argument describes.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let json = env::args_os().nth(1).ok_or("usage: public-api-listing <rustdoc JSON file>")?;
    // What every type has is noise here; `tests/composition.rs` holds the types to `Send`, `Sync` and `Unpin`.
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()?;
    print!("{api}");
    Ok(())
}
