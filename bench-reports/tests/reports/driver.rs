//! A WebDriver client as small as these tests need: ChromeDriver as a child process, and HTTP over a socket.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::browser::browser;

/// Longest wait for an answer: a browser on a busy machine takes its time, one that hangs must not hang the tests.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// The key under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window.
pub(crate) struct Driver {
    child: Child,
    port: u16,
    session: String,
    dir: tempfile::TempDir,
}

/// An element of the page.
pub(crate) struct Element(String);

impl Driver {
    /// Starts one; `None`, said aloud, where there is no browser or no driver for it. In CI that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let browser = browser()?;
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no ChromeDriver in CI");
            let _ = writeln!(
                std::io::stderr(),
                "skipped: no ChromeDriver (install the package `chromium-driver`)"
            );
            return None;
        };
        let port = port(&mut child);
        let mut driver = Self { child, port, session: String::new(), dir };
        let profile = driver.dir.path().join("profile");
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--window-size=1400,1000".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "binary": found(browser), "args": arguments },
        }}});
        let session = driver.send("POST", "/session", &capabilities);
        session["sessionId"].as_str().unwrap().clone_into(&mut driver.session);
        Some(driver)
    }

    /// Opens a page from a file.
    pub(crate) fn open(&self, html: &str) {
        let path = self.dir.path().join("report.html");
        fs::write(&path, html).unwrap();
        self.post("/url", &json!({ "url": format!("file://{}", path.display()) }));
    }

    /// What a script's `return` gives.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a script gives, as text.
    pub(crate) fn text(&self, script: &str) -> String {
        self.run(script).as_str().unwrap_or_else(|| panic!("no text: {script}")).to_owned()
    }

    /// The first element of that selector.
    pub(crate) fn find(&self, selector: &str) -> Element {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        Element(found[ELEMENT].as_str().unwrap_or_else(|| panic!("no {selector}")).to_owned())
    }

    /// Clicks into its middle, as a hand would.
    pub(crate) fn click(&self, element: &Element) {
        self.post(&format!("/element/{}/click", element.0), &json!({}));
    }

    /// Moves the pointer over it.
    pub(crate) fn hover(&self, element: &Element) {
        let origin = json!({ ELEMENT: element.0 });
        let moved = json!({ "type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": origin });
        self.post(
            "/actions",
            &json!({ "actions": [{ "type": "pointer", "id": "mouse", "actions": [moved] }] }),
        );
    }

    /// Presses keys one after the other, wherever the focus is.
    pub(crate) fn press(&self, keys: &[char]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| {
                [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
            })
            .collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// A command of the browser's own debugging protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// A screen of that width and the system's choice of light or dark.
    pub(crate) fn screen(&self, width: u32, theme: &str) {
        let metrics = json!({ "width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// The whole page as a picture.
    pub(crate) fn picture(&self, path: &Path) {
        let shot = self.devtools("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        fs::write(path, BASE64.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
    }

    /// Bytes of the page printed as PDF.
    pub(crate) fn print(&self) -> Vec<u8> {
        BASE64.decode(self.post("/print", &json!({})).as_str().unwrap()).unwrap()
    }

    /// What the console was told since the last time it was asked.
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        entries.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", &format!("/session/{}{path}", self.session), body)
    }

    /// One request on a connection of its own; panics where the driver refuses it.
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        let body = if method == "DELETE" { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .unwrap();
        let (status, answer) = answer(stream);
        let value: Value = serde_json::from_slice(&answer).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{method} {path}: {value}");
        value["value"].clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Ends the browser with its processes; then the driver has nothing left to do.
        if !self.session.is_empty() && !std::thread::panicking() {
            self.send("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status line and the body. The driver leaves the connection open, so the body ends where its length says.
fn answer(stream: TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_ascii_lowercase()
    };
    let status = line().to_ascii_uppercase();
    let headers: Vec<String> = std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty())).collect();
    let length = headers.iter().find_map(|header| header.strip_prefix("content-length:"));
    let mut body = vec![0; length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    (status, body)
}

/// ChromeDriver says where it listens.
fn port(child: &mut Child) -> u16 {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    // It goes on writing; nobody needs it, but a closed pipe would end it.
    std::thread::spawn(move || lines.for_each(drop));
    port.expect("ChromeDriver says its port")
}

/// The path of a program.
fn found(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|dir| dir.join(program));
    places.into_iter().find(|place| place.is_file()).unwrap().display().to_string()
}
