//! The short forms: all of them together take about a minute and a half.
//!
//! Each name begins with its row in `tests/HAZARDS.md`.

use crate::mounts::Format;
use crate::sweep::{Role, few, judge, sweep};
use crate::{kills, power, rows};

fn only() -> String {
    std::env::var("ONLY").unwrap_or_default()
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f1_a_download_whose_calls_fail_gets_through_or_ends_in_one_sentence() {
    judge(&sweep(&[Role::GetMapped, Role::GetPlain], few, &only()));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f3_a_seeder_whose_calls_fail_gets_through_or_ends_in_one_sentence() {
    judge(&sweep(&[Role::Seed], few, &only()));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f2_the_true_reason_of_a_bad_window_is_told() {
    rows::the_true_reason_is_told();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f2_a_bad_window_without_a_reason_is_got_through() {
    rows::a_fault_without_a_reason_is_got_through();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f3_a_flush_that_failed_claims_nothing() {
    rows::a_failed_flush_is_believed();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f3_a_read_error_ends_the_seeder_with_the_name_of_the_file() {
    rows::a_read_error_is_told_by_name();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f5_a_read_only_disk_is_told_before_the_network_starts() {
    rows::a_read_only_disk_is_told_before_the_network_starts();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f7_a_file_system_without_fallocate_serves() {
    rows::a_file_system_without_fallocate_serves();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f11_where_maps_are_refused_it_goes_the_plain_way() {
    rows::where_maps_are_refused_it_goes_the_plain_way();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f8_without_inodes_the_disk_is_full_and_the_file_is_named() {
    rows::without_inodes_the_disk_is_full();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r5_out_of_descriptors_it_waits_without_running_in_circles() {
    rows::out_of_descriptors_it_waits_without_running_in_circles();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r5_without_descriptors_a_download_ends_in_one_sentence() {
    rows::without_descriptors_a_download_ends();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r7_without_address_space_it_goes_the_plain_way() {
    rows::without_address_space_it_goes_the_plain_way();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r2_fifteen_kills_claim_nothing_false() {
    kills::judge(&kills::kill_again_and_again("mapped", 8, 1));
    kills::judge(&kills::kill_again_and_again("plain", 7, 2));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r3_ten_power_cuts_on_ext4_claim_nothing_false() {
    power::judge_cuts(power::cut_real_disks(Format::Ext4, 10, 4, 1));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r3_ten_power_cuts_on_xfs_claim_nothing_false() {
    power::judge_cuts(power::cut_real_disks(Format::Xfs, 10, 4, 2));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r3_no_made_up_disk_makes_a_claim_false() {
    for (storage, lives, seed) in [("mapped", 1, 1), ("plain", 1, 2), ("mapped", 2, 3)] {
        power::judge_crashes(&power::crash_made_up_disks(storage, lives, false, 120, seed));
    }
}

/// The model can fail: a device that ignores flushes shows false claims.
#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r3_a_device_that_lies_about_flushes_is_found_out() {
    for (storage, seed) in [("mapped", 4), ("plain", 5)] {
        let came = power::crash_made_up_disks(storage, 1, true, 60, seed);
        println!("{storage}: {} of {} disks have false claims", came.lies.len(), came.states);
        assert!(!came.lies.is_empty(), "{storage}: no disk shows that nothing was flushed");
    }
}
