//! A failed build script names the file and the reason.
#![allow(clippy::unwrap_used)]

use fluffle_build::Error;

const INCLUDES: [&str; 1] = [concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto")];

#[test]
fn a_missing_file_is_named() {
    let error = fluffle_build::compile(&["usgs/v1/moonquake.proto"], &INCLUDES).unwrap_err();
    assert!(matches!(error, Error::Proto(_)));
    assert!(error.to_string().contains("usgs/v1/moonquake.proto"), "{error}");
}

#[test]
fn outside_a_build_script_it_says_what_is_missing() {
    for compile in [fluffle_build::compile, fluffle_build::compile_with_json] {
        let error = compile(&["usgs/v1/quake.proto"], &INCLUDES).unwrap_err();
        assert!(matches!(error, Error::Write(_)));
        assert!(error.to_string().contains("OUT_DIR"), "{error}");
    }
}
