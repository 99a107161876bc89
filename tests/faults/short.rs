//! The short forms: all of them together take about a minute and a half.
//!
//! Each name begins with its row in `tests/HAZARDS.md`.

use crate::mounts::Format;
use crate::sweep::{Role, check, few, sweep};
use crate::{kills, power, rows};

fn only() -> String {
    std::env::var("ONLY").unwrap_or_default()
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f1_a_download_whose_calls_fail_finishes_or_ends_in_one_sentence() {
    check(&sweep(&[Role::GetMapped, Role::GetPlain], few, &only()));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f3_a_seeder_whose_calls_fail_finishes_or_ends_in_one_sentence() {
    check(&sweep(&[Role::Seed], few, &only()));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f2_the_message_of_a_bad_window_has_the_reason_of_the_file() {
    rows::the_message_has_the_reason_of_the_file();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f2_blocks_of_a_bad_window_are_written_plainly() {
    rows::blocks_of_a_bad_window_are_written_plainly();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f3_a_flush_that_failed_claims_nothing() {
    rows::a_failed_flush_claims_nothing();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f3_a_read_error_ends_the_seeder_with_the_name_of_the_file() {
    rows::a_read_error_names_the_file();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f5_a_read_only_disk_is_reported_before_the_first_connection() {
    rows::a_read_only_disk_is_reported_before_the_first_connection();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f7_a_file_system_without_fallocate_works() {
    rows::a_file_system_without_fallocate_works();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f11_a_file_system_without_shared_maps_uses_plain_storage() {
    rows::a_file_system_without_shared_maps_uses_plain_storage();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn f8_without_inodes_the_disk_is_full_and_the_file_is_named() {
    rows::without_inodes_the_disk_is_full();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r5_a_seeder_without_descriptors_does_not_busy_wait() {
    rows::a_seeder_without_descriptors_does_not_busy_wait();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r5_without_descriptors_a_download_ends_in_one_sentence() {
    rows::without_descriptors_a_download_ends();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r7_without_address_space_storage_is_plain() {
    rows::without_address_space_storage_is_plain();
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r2_fifteen_kills_claim_nothing_false() {
    kills::check(&kills::kill_repeatedly("mapped", 8, 1));
    kills::check(&kills::kill_repeatedly("plain", 7, 2));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r3_ten_power_cuts_on_ext4_claim_nothing_false() {
    power::check_cuts(power::cut_real_disks(Format::Ext4, 10, 4, 1));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r3_ten_power_cuts_on_xfs_claim_nothing_false() {
    power::check_cuts(power::cut_real_disks(Format::Xfs, 10, 4, 2));
}

#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r3_no_claim_is_false_on_a_simulated_disk() {
    for (storage, lives, seed) in [("mapped", 1, 1), ("plain", 1, 2), ("mapped", 2, 3)] {
        power::check_crashes(&power::crash_simulated_disks(storage, lives, false, 120, seed));
    }
}

/// Checks the model itself: a device that ignores flushes must lead to false claims.
#[test]
#[ignore = "builds a rill of its own; cargo test --test faults -- --ignored short"]
fn r3_a_device_that_ignores_flushes_is_detected() {
    for (storage, seed) in [("mapped", 4), ("plain", 5)] {
        let result = power::crash_simulated_disks(storage, 1, true, 60, seed);
        println!("{storage}: {} of {} disks have false claims", result.lies.len(), result.states);
        assert!(!result.lies.is_empty(), "{storage}: no disk shows that nothing was flushed");
    }
}
