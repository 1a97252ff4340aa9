//! Compiles the lessons' messages. An application does the same with its own: no `protoc` needed.

fn main() -> Result<(), fluffle_build::Error> {
    fluffle_build::compile(&["lessons/v1/lessons.proto", "shop/v1/shop.proto"], &["proto"])
}
