//! The demo's page, clicked in a browser.

use std::path::Path;

use serde_json::json;

use crate::{browser::Browser, example::Example};

/// A demo with its page. Two of them may be clicked at the same time.
struct Demo {
    example: Example,
    page: Browser,
}

impl Demo {
    fn open(width: u32) -> Self {
        let example = Example::start("demo", &[], 0);
        let mut page = Browser::open(&example.url, [width, 900]);
        page.wait_until("document.querySelectorAll('#nodes li:not(.down) .dot').length === 2");
        Self { example, page }
    }

    /// Clicks a button, waits until each of its clicks has its answer, and returns what the page says of the order.
    fn order(&mut self, action: &str) -> String {
        self.page.click(&format!("[data-action={action}]"));
        self.page.wait_until("document.querySelector('.order').dataset.settled === 'true'");
        self.page.text(".order:first-child p")
    }

    fn charges(&mut self) -> String {
        self.page.text(".order:first-child .sum")
    }

    /// No error in the page's code, and not a request to anybody else.
    fn assert_that_nothing_went_wrong(&mut self) {
        self.page.value("0");
        let events = &self.page.events;
        let of = |method: &str| events.iter().filter(|event| event["method"] == method).collect::<Vec<_>>();
        assert_eq!(of("Runtime.exceptionThrown"), [&json!(null); 0]);
        // A refused payment is an error of the network to the browser.
        let logged = of("Log.entryAdded");
        assert!(logged.iter().all(|event| event["params"]["entry"]["source"] == "network"), "{logged:?}");
        let requests = of("Network.requestWillBeSent");
        let urls: Vec<_> = requests.iter().map(|event| event["params"]["request"]["url"].as_str().unwrap()).collect();
        assert!(
            urls.len() > 2 && urls.iter().all(|url| url.starts_with(&self.example.url) || *url == "data:,"),
            "{urls:?}"
        );
    }

    /// What the servers have counted: charges, runs, replays, refusals; and charges and runs without the layer.
    fn counted(&mut self) -> [u32; 6] {
        let ids = ["with-charges", "with-runs", "with-replays", "with-refusals", "without-charges", "without-runs"];
        ids.map(|id| self.page.text(&format!("#{id}")).parse().unwrap())
    }
}

#[test]
fn twenty_clicks_are_one_charge_with_the_layer_and_twenty_without() {
    let mut demo = Demo::open(1280);
    demo.page.click("#layer");
    assert_eq!(demo.order("twenty"), "20 runs");
    assert_eq!(demo.charges(), "20charges");
    demo.page.click("#layer");
    let said = demo.order("twenty");
    assert!(said.starts_with("1 run · ") && said.ends_with(" refused · 19 replayed"), "{said}");
    assert_eq!(demo.charges(), "1charge");

    let [charges, runs, replays, refusals, without @ ..] = demo.counted();
    assert_eq!(([charges, runs, replays], without), ([1, 1, 19], [20, 20]));
    assert!(refusals > 0);
    if let Some(file) = std::env::var_os("DEMO_SCREENSHOT") {
        screenshot(&mut demo.page, Path::new(&file));
    }
    demo.assert_that_nothing_went_wrong();
}

/// As Base64, of the whole page, which `tests/interop/screenshot` makes a picture of.
fn screenshot(page: &mut Browser, file: &Path) {
    page.click("h1"); // no button under the mouse
    let screen = json!({ "width": 1280, "height": 900, "deviceScaleFactor": 1.5, "mobile": false });
    page.ask("Emulation.setDeviceMetricsOverride", &screen);
    let shot = page.ask("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
    std::fs::write(file, shot["data"].as_str().unwrap()).unwrap();
}

#[test]
fn duplicates_that_wait_are_not_refused() {
    let mut demo = Demo::open(1280);
    demo.page.click("[value=wait]");
    assert_eq!(demo.order("twenty"), "1 run · 19 replayed");
    assert_eq!(demo.order("double"), "1 run · 1 replayed");
    assert_eq!(demo.order("pay"), "1 run");
    assert_eq!(demo.counted(), [3, 3, 20, 0, 0, 0]);
    demo.page.click("#start-over");
    demo.page.wait_until("document.getElementById('with-charges').textContent === '0'");
    assert_eq!(demo.counted(), [0; 6]);
    assert_eq!(demo.page.text(".order"), "");
    demo.assert_that_nothing_went_wrong();
}

#[test]
fn a_lost_connection_is_one_charge_with_the_layer_and_two_without() {
    let mut demo = Demo::open(1280);
    let said = demo.order("lose");
    assert!(said.starts_with("1 run · client hung up · ") && said.ends_with(" refused · 1 replayed"), "{said}");
    assert_eq!(demo.charges(), "1charge");
    demo.page.click("#layer");
    assert_eq!(demo.order("lose"), "2 runs · client hung up");
    assert_eq!(demo.charges(), "2charges");
    demo.assert_that_nothing_went_wrong();
}

#[test]
fn a_node_that_is_killed_before_the_charge_has_its_run_repeated_after_the_lease() {
    let mut demo = Demo::open(1280);
    let said = demo.order("crash");
    assert!(said.starts_with("2 runs · a node died · ") && said.ends_with(" refused"), "{said}");
    assert_eq!(demo.charges(), "1charge");
    let log = demo.page.text("#log .said");
    assert!(log.contains("killed: kill -9"), "{log}");
    assert!(log.contains("runs again: the lease of the dead node is over"), "{log}");
    demo.page.wait_until("document.querySelectorAll('#nodes li:not(.down) .dot').length === 2");
    demo.assert_that_nothing_went_wrong();
}

/// What nobody can promise, and what helps.
#[test]
fn a_node_that_is_killed_after_the_charge_charges_twice_unless_the_bank_knows_the_charge() {
    let mut demo = Demo::open(1280);
    demo.page.click("[value=after]");
    assert!(demo.order("crash").starts_with("2 runs · a node died"));
    assert_eq!(demo.charges(), "1charge");
    demo.page.click("#unique");
    assert!(demo.order("crash").starts_with("2 runs · "));
    assert_eq!(demo.charges(), "2charges");
    demo.assert_that_nothing_went_wrong();
}

#[test]
fn the_page_can_be_used_without_a_mouse_without_colours_and_on_a_telephone() {
    let mut demo = Demo::open(360);
    assert_eq!(demo.page.value("document.documentElement.scrollWidth"), 360, "nothing is wider than the screen");
    let tree = demo.page.ask("Accessibility.getFullAXTree", &json!({}));
    let named = |role: &str| {
        let nodes = tree["nodes"].as_array().unwrap().iter().filter(|node| node["role"]["value"] == role);
        nodes.map(|node| node["name"]["value"].as_str().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    let pay = ["Pay € 120.00", "Double click", "20 clicks at once"];
    assert_eq!(named("button")[..3], pay);
    assert_eq!(named("switch"), ["Idempotency layer on"]);
    assert_eq!(named("columnheader"), ["charges", "runs", "replayed", "refused"]);
    assert_eq!((named("radio").len(), named("checkbox").len(), named("heading").len()), (4, 1, 6));
    for role in ["button", "radio", "checkbox", "list"] {
        assert!(named(role).iter().all(|name| !name.is_empty()), "{role} without a name: {:?}", named(role));
    }

    demo.page.value("document.querySelector('[data-action=double]').focus()");
    for kind in ["keyDown", "keyUp"] {
        let key = json!({ "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r" });
        demo.page.ask("Input.dispatchKeyEvent", &key);
    }
    demo.page.wait_until("document.querySelector('#status').textContent !== ''");
    let said = demo.page.text("#status");
    assert!(said.starts_with("Double click with the layer: 1 charge, 1 run"), "{said}");
    demo.assert_that_nothing_went_wrong();
}
