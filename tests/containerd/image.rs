//! An image as an OCI archive, by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::tool;

/// Makes an archive of one layer, an uncompressed tar; containerd knows it under `name`.
pub fn archive(folder: &Path, layer: &Path, name: &str) -> PathBuf {
    let layout = folder.join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let keep = |kind: &str, content: &Path| {
        let digest = tool(Command::new("sha256sum").arg(content));
        let digest = String::from_utf8(digest).unwrap().split(' ').next().unwrap().to_owned();
        let size = content.metadata().unwrap().len();
        fs::rename(content, layout.join("blobs/sha256").join(&digest)).unwrap();
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"),
            "size": size,
        })
    };
    let keep_json = |kind: &str, content: &Value| {
        let file = folder.join("blob.json");
        fs::write(&file, content.to_string()).unwrap();
        keep(kind, &file)
    };
    let layer = keep("layer.v1.tar", layer);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": { "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = keep_json("config.v1+json", &config);
    let kind = "manifest.v1+json";
    let mut manifest = keep_json(kind, &json!({ "schemaVersion": 2, "config": config, "layers": [layer] }));
    // By this name, whole as it is, containerd takes it.
    manifest["annotations"] = json!({ "io.containerd.image.name": name });
    fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string())
        .unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let archive = folder.join("archive.tar");
    tool(Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg("."));
    archive
}
