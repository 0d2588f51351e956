//! Chromium without a window, told what to do through its `DevTools` protocol, over pipes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

/// Debian's two, other Linuxes', and macOS's.
const NAMES: [&str; 6] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/// It talks to nobody but the page. As root, which CI may be, Chromium cannot make its sandbox.
const OPTIONS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

pub(crate) struct Browser {
    process: Child,
    /// `None`: it has been told to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    profile: PathBuf,
    /// Of the page: commands without it are for the whole browser.
    session: Option<String>,
    sent: u64,
    /// What it has said without being asked.
    pub(crate) events: Vec<Value>,
}

impl Browser {
    /// With the page at `url` in a window of this size.
    pub(crate) fn open(url: &str, [width, height]: [u32; 2]) -> Self {
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "interop_browser_{}_{}",
            std::process::id(),
            url.rsplit(':').next().unwrap_or_default()
        ));
        // It reads commands from descriptor 3 and writes answers to 4.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 >/dev/null 2>&1"])
            .arg(program())
            .args(OPTIONS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut browser = Self { process, commands, answers, profile, session: None, sent: 0, events: Vec::new() };
        let target =
            browser.ask("Target.createTarget", &json!({ "url": "about:blank", "width": width, "height": height }));
        let session = browser.ask("Target.attachToTarget", &json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.ask(&format!("{domain}.enable"), &json!({}));
        }
        browser.ask("Page.navigate", &json!({ "url": url }));
        browser.wait_until("document.readyState === 'complete' && location.href !== 'about:blank'");
        browser
    }

    pub(crate) fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.sent += 1;
        let mut command = json!({ "id": self.sent, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        write!(self.commands.as_mut().unwrap(), "{command}\0").expect("the browser lives");
        loop {
            let mut message = self.hear();
            if message["id"] != self.sent {
                self.events.push(message);
                continue;
            }
            assert!(message["error"].is_null(), "{method}: {}", message["error"]);
            return message["result"].take();
        }
    }

    fn hear(&mut self) -> Value {
        let mut message = Vec::new();
        self.answers.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the browser has ended");
        serde_json::from_slice(&message).unwrap()
    }

    /// The value of an expression, of a promise what it promises.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.ask("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Looks at each frame, for a minute at most.
    pub(crate) fn wait_until(&mut self, condition: &str) {
        let came = self.value(&format!(
            "new Promise((done) => {{
                const end = Date.now() + 60_000;
                const look = () => ({condition}) ? done(true) : Date.now() > end ? done(false) : setTimeout(look, 20);
                look();
            }})"
        ));
        assert_eq!(came, true, "{condition} has not come about");
    }

    /// With the mouse.
    pub(crate) fn click(&mut self, selector: &str) {
        let at = self.value(&format!(
            "(() => {{
                const element = document.querySelector({selector:?});
                element.scrollIntoView({{ block: 'center' }});
                const box = element.getBoundingClientRect();
                return {{ x: box.x + box.width / 2, y: box.y + box.height / 2 }};
            }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": at["x"], "y": at["y"], "button": "left", "clickCount": 1 });
            self.ask("Input.dispatchMouseEvent", &event);
        }
    }

    /// The text of the elements that `selector` finds.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let all = format!("[...document.querySelectorAll({selector:?})].map((one) => one.textContent).join(' | ')");
        self.value(&all).as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without commands to come it ends, when its processes have written what they had to.
        self.commands = None;
        let _ = self.answers.read_to_end(&mut Vec::new());
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

/// `CHROMIUM` names another.
fn program() -> PathBuf {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&search).collect();
    let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    let wanted = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let found = wanted.or_else(|| NAMES.iter().find_map(|name| find(name)));
    found.filter(|path| Path::is_file(path)).expect("Chromium is missing: `tests/run --interop` installs it")
}
