//! What runc writes floe restores, and the other way round.

use crate::support::Place;
use crate::support::leaks::Picture;
use crate::support::program::Bundle;
use crate::support::runc::{criu, runc_ok};
use crate::word;

#[test]
fn a_container_goes_from_runc_to_floe_and_back() {
    let place = Place::new("interop");
    let before = Picture::without_criu(&place, &[]);
    let criu = criu("criu");
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "4"]);
    // A file of the host, which runc names by its place and floe too.
    std::fs::create_dir(place.join("data")).unwrap();
    let data = place.join("data");
    bundle.change(|config| {
        config["mounts"].as_array_mut().unwrap().push(
            serde_json::json!({"destination": "/data", "type": "bind", "source": data, "options": ["rbind", "rw"]}),
        );
    });
    let name = place.name("web");
    let folder = word(bundle.path());
    runc_ok(&place, &criu, ["run", "--detach", "--bundle", &folder, &name]);
    bundle.ready();
    for round in 0..2 {
        let images = word(&place.join(format!("runc-{round}")));
        runc_ok(&place, &criu, ["checkpoint", "--image-path", &images, &name]);
        let said = place.run(["restore", "--detach", "--bundle", &folder, "--image-path", &images, &name]);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
        bundle.ask_ok("check");
        assert!(place.join("data").exists());

        let images = word(&place.join(format!("floe-{round}")));
        place.ok(["checkpoint", "--image-path", &images, &name]);
        runc_ok(&place, &criu, ["restore", "--detach", "--bundle", &folder, "--image-path", &images, &name]);
        bundle.ask_ok("check");
    }
    runc_ok(&place, &criu, ["delete", "--force", &name]);
    before.assert_unchanged();
}

#[test]
fn what_runc_wrote_brings_back_no_more_than_the_bundle_gives() {
    let place = Place::new("interop");
    let criu = criu("criu");
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "4"]);
    let (name, folder) = (place.name("web"), word(bundle.path()));
    runc_ok(&place, &criu, ["run", "--detach", "--bundle", &folder, &name]);
    bundle.ready();
    let images = word(&place.join("images"));
    runc_ok(&place, &criu, ["checkpoint", "--image-path", &images, &name]);
    bundle.change(|config| {
        for kind in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][kind] = serde_json::json!(["CAP_KILL"]);
        }
    });
    let restore = ["restore", "--detach", "--bundle", &folder, "--image-path", &images, &name];
    let said = place.run(restore);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(
        said.stderr.contains("CAP_") && said.stderr.contains("which the bundle does not give"),
        "{said:?}"
    );
    assert!(place.state(&name).is_none());
    // Without a bundle nobody knows what it was made of.
    let said = place.run(["restore", "--detach", "--image-path", &images, &name]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.stderr.contains("--bundle"), "{said:?}");
}

#[test]
fn runc_restores_under_another_name() {
    let place = Place::new("interop");
    let criu = criu("criu");
    let (bundle, name) = Bundle::running(&place);
    let images = word(&place.join("images"));
    place.ok(["checkpoint", "--image-path", &images, &name]);
    let other = place.name("other");
    let words = ["restore", "--detach", "--bundle", &word(bundle.path()), "--image-path", &images, &other];
    runc_ok(&place, &criu, words);
    bundle.ask_ok("check");
    runc_ok(&place, &criu, ["delete", "--force", &other]);
}
