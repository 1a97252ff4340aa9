//! Compiles the `.proto` files of the lessons, as an application does with its own. No `protoc` is needed.

fn main() -> Result<(), fluffle_build::Error> {
    fluffle_build::compile(&["lessons/v1/lessons.proto", "shop/v1/shop.proto"], &["proto"])
}
