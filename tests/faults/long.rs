//! The long forms: every call, hundreds of power cuts, hundreds of kills. `tests/HAZARDS.md` has the last
//! figures.

use crate::mounts::Format;
use crate::sweep::{ROLES, all, check, sweep};
use crate::{kills, power};

#[test]
#[ignore = "ten minutes; cargo test --test faults -- --ignored --nocapture long"]
fn f1_any_single_call_of_a_transfer_may_fail() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for role in ROLES {
        println!("{role:?}");
        check(&sweep(&[role], all, &only));
    }
}

#[test]
#[ignore = "minutes; cargo test --test faults -- --ignored --nocapture long"]
fn r2_five_hundred_kills_claim_nothing_false() {
    kills::check(&kills::kill_repeatedly("mapped", 500, 11));
    kills::check(&kills::kill_repeatedly("plain", 500, 12));
}

#[test]
#[ignore = "minutes, needs root; cargo test --test faults -- --ignored --nocapture long"]
fn r3_three_hundred_power_cuts_on_ext4_claim_nothing_false() {
    power::check_cuts(power::cut_real_disks(Format::Ext4, 300, 10, 21));
}

#[test]
#[ignore = "minutes, needs root; cargo test --test faults -- --ignored --nocapture long"]
fn r3_three_hundred_power_cuts_on_xfs_claim_nothing_false() {
    power::check_cuts(power::cut_real_disks(Format::Xfs, 300, 10, 22));
}

#[test]
#[ignore = "minutes; cargo test --test faults -- --ignored --nocapture long"]
fn r3_no_claim_is_false_on_thousands_of_simulated_disks() {
    for (storage, lives, seed) in [("mapped", 1, 31), ("plain", 1, 32), ("mapped", 3, 33), ("plain", 3, 34)] {
        power::check_crashes(&power::crash_simulated_disks(storage, lives, false, 1500, seed));
    }
}
