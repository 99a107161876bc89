//! The long forms: every call, hundreds of power cuts, hundreds of kills. `tests/HAZARDS.md` has the last
//! figures.

use crate::mounts::Format;
use crate::sweep::{ROLES, all, judge, sweep};
use crate::{kills, power};

#[test]
#[ignore = "ten minutes; cargo test --test faults -- --ignored --nocapture long"]
fn f1_every_single_call_of_a_transfer_may_fail() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for role in ROLES {
        println!("{role:?}");
        judge(&sweep(&[role], all, &only));
    }
}

#[test]
#[ignore = "minutes; cargo test --test faults -- --ignored --nocapture long"]
fn r2_five_hundred_kills_claim_nothing_false() {
    kills::judge(&kills::kill_again_and_again("mapped", 500, 11));
    kills::judge(&kills::kill_again_and_again("plain", 500, 12));
}

#[test]
#[ignore = "minutes, needs root; cargo test --test faults -- --ignored --nocapture long"]
fn r3_three_hundred_power_cuts_on_ext4_claim_nothing_false() {
    power::judge_cuts(power::cut_real_disks(Format::Ext4, 300, 10, 21));
}

#[test]
#[ignore = "minutes, needs root; cargo test --test faults -- --ignored --nocapture long"]
fn r3_three_hundred_power_cuts_on_xfs_claim_nothing_false() {
    power::judge_cuts(power::cut_real_disks(Format::Xfs, 300, 10, 22));
}

#[test]
#[ignore = "minutes; cargo test --test faults -- --ignored --nocapture long"]
fn r3_none_of_thousands_of_made_up_disks_makes_a_claim_false() {
    for (storage, lives, seed) in [("mapped", 1, 31), ("plain", 1, 32), ("mapped", 3, 33), ("plain", 3, 34)] {
        power::judge_crashes(&power::crash_made_up_disks(storage, lives, false, 1500, seed));
    }
}
