//! Compiles the .proto files beside this file; nothing but Rust is needed.

fn main() -> Result<(), fluffle_build::Error> {
    fluffle_build::compile_with_json(&["usgs/v1/quake.proto", "fluffle/wiretest/v1/kinds.proto"], &["."])
}
