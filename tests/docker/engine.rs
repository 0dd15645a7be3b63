//! Docker as these tests use it: the image built once, a compose file started on free ports under a name of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::broker::{Directory, free_port};
use crate::support::programs::{output_with_input, run};
use crate::support::wait_for;

const READY_WITHIN: Duration = Duration::from_secs(60);

/// The name of the image, made from this checkout at the first call.
pub fn image() -> &'static str {
    const NAME: &str = "capek-test";
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Command::new(checkout().join("docker/build")).arg(NAME).status();
        assert!(built.expect("docker/build can be run").success(), "docker/build failed");
    });
    NAME
}

/// Runs `docker ARGUMENTS`, demands success and answers its standard output.
pub fn docker(arguments: &[&str]) -> String {
    docker_with_input(arguments, "")
}

pub fn docker_with_input(arguments: &[&str], input: &str) -> String {
    output_with_input(docker_command(arguments), input)
}

pub fn docker_command(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments);
    command
}

/// Begins like all names that these tests give, and ends like no other.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("capektest{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Asks in the container, which is quicker than to wait for the engine's next health check.
pub fn wait_until_ready(container: &str) {
    wait_for("the container is ready", READY_WITHIN, || {
        let (status, stdout, stderr) =
            run(docker_command(&["exec", container, "capek", "health", "--local", "--wait", "10s"]), "");
        let state = docker(&["inspect", "--format", "{{.State.Status}}", container]);
        assert_ne!(state.trim(), "exited", "{}\n{stdout}{stderr}", logs(container));
        status.success().then_some(())
    });
}

pub fn wait_until_healthy(container: &str) {
    wait_for("the engine finds the container healthy", READY_WITHIN, || {
        let health = docker(&["inspect", "--format", "{{.State.Health.Status}}", container]);
        (health.trim() == "healthy").then_some(())
    });
}

/// All that it has written, over all its starts.
pub fn logs(container: &str) -> String {
    let (_, stdout, stderr) = run(docker_command(&["logs", container]), "");
    stdout + &stderr
}

/// A container that is removed with this value.
pub struct Container {
    pub name: String,
}

impl Container {
    /// `docker run --detach OPTIONS IMAGE COMMAND`
    pub fn start(options: &[&str], command: &[&str]) -> Container {
        let container = Container { name: unique_name() };
        let arguments = [&["run", "--detach", "--name", &container.name], options, &[image()], command].concat();
        docker(&arguments);
        container
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, logs(&self.name));
        }
        let _ = docker_command(&["rm", "--force", "--volumes", &self.name]).output();
    }
}

/// A compose file that runs; what it made is removed with this value.
pub struct Compose {
    project: String,
    file: String,
    kafka_ports: Vec<u16>,
    http_ports: Vec<u16>,
    services: Vec<String>,
    _directory: Directory,
}

impl Compose {
    /// Starts `docker/FILE` with the test's image, and with free ports of this machine for those that it publishes: Kafka's,
    /// which it also advertises on localhost, and those that lead to HTTP.
    pub fn start(file: &str, kafka: &[u16], http: &[u16]) -> Compose {
        let path = checkout().join("docker").join(file);
        let text = fs::read_to_string(&path).expect("the compose file is there");
        let mut text = replaced(&text, "image: capek\n", &format!("image: {}\n", image()));
        let kafka_ports: Vec<u16> = kafka.iter().map(|_| free_port()).collect();
        let http_ports: Vec<u16> = http.iter().map(|_| free_port()).collect();
        for (port, free) in kafka.iter().zip(&kafka_ports) {
            text = replaced(&text, &format!("{port}:{port}\""), &format!("{free}:{free}\""));
            text = replaced(&text, &format!("localhost:{port}"), &format!("localhost:{free}"));
        }
        for (port, free) in http.iter().zip(&http_ports) {
            text = replaced(&text, &format!("{port}:8080\""), &format!("{free}:8080\""));
        }
        let directory = Directory::new();
        let copy = directory.path().join(file);
        fs::write(&copy, text).expect("the test's directory is writable");
        let file = copy.to_str().expect("the path is ASCII").to_owned();
        let services = Vec::new();
        let mut compose =
            Compose { project: unique_name(), file, kafka_ports, http_ports, services, _directory: directory };
        compose.run(&["up", "--detach"]);
        compose.services = compose.run(&["ps", "--services"]).lines().map(str::to_owned).collect();
        compose
    }

    /// What clients on this machine call the broker of this index.
    pub fn kafka(&self, index: usize) -> String {
        format!("localhost:{}", self.kafka_ports[index])
    }

    pub fn http(&self, index: usize) -> String {
        format!("http://localhost:{}", self.http_ports[index])
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        let mut command = compose_command();
        command.args(["--project-name", &self.project, "--file", &self.file]).args(arguments);
        output_with_input(command, "")
    }

    /// The id of a service's container, running or not.
    pub fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service_label = format!("label=com.docker.compose.service={service}");
        let found = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &project, "--filter", &service_label]);
        assert_eq!(found.lines().count(), 1, "{service} has one container, not: {found}");
        found.trim().to_owned()
    }

    pub fn wait_until_ready(&self, service: &str) {
        wait_until_ready(&self.container(service));
    }

    /// The network by which its services know each other.
    pub fn network(&self) -> String {
        format!("{}_default", self.project)
    }

    /// A command in a service's container.
    pub fn exec(&self, service: &str, command: &[&str]) -> String {
        self.exec_with_input(service, command, "")
    }

    pub fn exec_with_input(&self, service: &str, command: &[&str], input: &str) -> String {
        let container = self.container(service);
        docker_with_input(&[&["exec", "--interactive", container.as_str()], command].concat(), input)
    }

    /// A command in a container of its own, in the same network.
    pub fn beside(&self, command: &[&str], input: &str) -> String {
        let (name, network) = (unique_name(), self.network());
        let arguments = ["run", "--rm", "--interactive", "--name", &name, "--network", &network, image()];
        docker_with_input(&[&arguments, command].concat(), input)
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for service in &self.services {
                let mut command = compose_command();
                command.args(["--project-name", &self.project, "--file", &self.file, "logs", "--tail", "40", service]);
                let (_, stdout, _) = run(command, "");
                eprintln!("--- {service}\n{stdout}");
            }
        }
        let mut command = compose_command();
        command.args(["--project-name", &self.project, "--file", &self.file]);
        command.args(["down", "--volumes", "--remove-orphans", "--timeout", "1"]);
        let _ = command.output();
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the compose file has no {from}");
    text.replace(from, to)
}

/// The plugin of newer engines, or the program that Debian has.
fn compose_command() -> Command {
    static IS_PLUGIN: OnceLock<bool> = OnceLock::new();
    let is_plugin = IS_PLUGIN.get_or_init(|| {
        let version = docker_command(&["compose", "version"]).output();
        version.is_ok_and(|output| output.status.success())
    });
    if *is_plugin { docker_command(&["compose"]) } else { Command::new("docker-compose") }
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
