"""A GPU and its libraries, stood in for: made from the real bindings' signatures, computing with ONNX Runtime."""
