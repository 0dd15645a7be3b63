//! Chromium without a window, driven over WebDriver.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::programs::Background;
use crate::support::rest::{JSON, call};
use crate::support::wait_for;

pub struct Browser {
    _driver: Background,
    session: String,
    process: i64,
}

impl Browser {
    pub fn start() -> Browser {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0");
        let mut driver = Background::start(command);
        let port = loop {
            let line = driver.line();
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // Tests run as root in containers, where Chromium's sandbox and a large /dev/shm are missing.
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"];
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": arguments } } } });
        let driver_url = format!("http://127.0.0.1:{port}");
        let answer = call("POST", &format!("{driver_url}/session"), &[JSON], &wanted.to_string()).expect(200);
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        Browser {
            session: format!("{driver_url}/session/{id}"),
            process: answer["value"]["capabilities"]["goog:processID"].as_i64().expect("Chromium has a process"),
            _driver: driver,
        }
    }

    /// Until the page is loaded.
    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page and answers what it returns.
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// The expression's value, once it is truthy.
    pub fn wait_for(&self, expression: &str, within: Duration) -> Value {
        let script = format!("return {expression}");
        wait_for(&format!("{expression} in the page"), within, || {
            let value = self.run(&script, &[]);
            (![Value::Null, json!(false), json!(0)].contains(&value)).then_some(value)
        })
    }

    fn command(&self, name: &str, body: &Value) -> Value {
        call("POST", &format!("{}/{name}", self.session), &[JSON], &body.to_string()).expect(200)["value"].take()
    }
}

impl Drop for Browser {
    /// The driver is killed next, which would leave Chromium behind.
    fn drop(&mut self) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "10", "--request", "DELETE", &self.session]);
        let ended = curl.stdout(Stdio::null()).status();
        if !ended.is_ok_and(|status| status.success()) {
            let _ = Command::new("kill").args(["-KILL", &self.process.to_string()]).status();
        }
    }
}
