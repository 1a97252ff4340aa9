//! Compiles the messages of the chapters.

fn main() -> Result<(), fluffle_build::Error> {
    fluffle_build::compile(&["orders.proto"], &["proto"])
}
