//! What all targets have in common: besides what a target asserts, octets may not cost more memory than their number allows.

/// Runs `target`, which may use as much memory at once as `fixed`, and `each` for each of the octets.
pub fn within(octets: &[u8], fixed: u64, each: u64, target: fn(&[u8])) {
    let most = fixed + each * octets.len() as u64;
    let used = allocation_counter::measure(|| target(octets)).bytes_max;
    assert!(used <= most, "{used} octets of memory for {} octets of input, {most} are allowed", octets.len());
}
