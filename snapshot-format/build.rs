//! Makes Rust types of `proto/images.proto`.

fn main() {
    println!("cargo::rerun-if-changed=proto/images.proto");
    protobuf_codegen::Codegen::new()
        .pure()
        .include("proto")
        .input("proto/images.proto")
        .cargo_out_dir("proto")
        .run_from_script();
}
