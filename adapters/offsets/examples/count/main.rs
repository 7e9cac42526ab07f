//! One load on a tracker of offsets, as often as is said, for a tool that counts its instructions: `scripts/instructions`.
//!
//! ```text
//! count NAME WINDOWS      puts a tracker through so many windows of 1000
//! count                   names the loads
//! ```
#![expect(clippy::print_stdout, reason = "the names")]
#![expect(clippy::unwrap_used, reason = "a load that cannot go on says nothing")]

mod loads;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        loads::loads().iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let windows = arguments.next().unwrap().parse().unwrap();
    let (_, mut load) = loads::loads().into_iter().find(|(known, _)| *known == name).unwrap();
    load(windows);
}
