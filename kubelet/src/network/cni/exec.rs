//! Runs plugins: environment and JSON in, JSON out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::runtime::Handle;

use super::Error;
use super::config::{NetworkList, kind};
use crate::network::Pod;

/// Bytes of a plugin's answer, and of its complaints.
const OUTPUT_MAX: u64 = 1 << 20;

/// One command for all plugins of a chain.
pub(super) struct Run<'a> {
    pub(super) command: &'static str,
    pub(super) pod: &'a Pod,
    pub(super) list: &'a NetworkList,
    /// Empty if it is gone.
    pub(super) netns: &'a Path,
    pub(super) link: &'a str,
    pub(super) bin_dirs: &'a [PathBuf],
    pub(super) timeout: Duration,
    /// By capability.
    pub(super) runtime: BTreeMap<&'static str, Value>,
}

impl Run<'_> {
    /// Runs one plugin and returns its result, if it has one. Blocks; on a thread of a runtime.
    pub(super) fn plugin(
        &self,
        plugin: &Value,
        previous: Option<&Value>,
    ) -> Result<Option<Value>, Error> {
        let program = self.find(kind(plugin))?;
        let input = self.input(plugin, previous).to_string();
        let output = Handle::current().block_on(self.execute(&program, input.as_bytes()));
        let (success, stdout, stderr) = output.map_err(|source| Error::Run {
            plugin: kind(plugin).to_owned(),
            command: self.command,
            source,
        })?;
        if !success {
            return Err(self.failure(plugin, &stdout, &stderr));
        }
        if stdout.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&stdout)
            .map(Some)
            .map_err(|err| Error::Result {
                plugin: kind(plugin).to_owned(),
                command: self.command,
                reason: err.to_string(),
            })
    }

    fn find(&self, name: &str) -> Result<PathBuf, Error> {
        let mut found = self
            .bin_dirs
            .iter()
            .map(|dir| dir.join(name))
            .filter(|p| p.is_file());
        found.next().ok_or_else(|| Error::NoPlugin {
            plugin: name.to_owned(),
            path: self.path(),
        })
    }

    fn path(&self) -> String {
        let dirs: Vec<_> = self
            .bin_dirs
            .iter()
            .map(|dir| dir.display().to_string())
            .collect();
        dirs.join(":")
    }

    /// The plugin's configuration with what the chain and the pod add to it.
    fn input(&self, plugin: &Value, previous: Option<&Value>) -> Value {
        let mut input = plugin.clone();
        input["name"] = self.list.name.clone().into();
        input["cniVersion"] = self.list.cni_version.clone().into();
        let capable = |name: &str| plugin["capabilities"][name] == Value::Bool(true);
        let runtime = self.runtime.iter().filter(|(name, _)| capable(name));
        let runtime: serde_json::Map<_, _> = runtime
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        if !runtime.is_empty() {
            input["runtimeConfig"] = Value::Object(runtime);
        }
        // Before 0.4 only ADD knew of earlier results.
        let old = ["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&self.list.cni_version.as_str());
        if let Some(previous) = previous.filter(|_| self.command == "ADD" || !old) {
            input["prevResult"] = previous.clone();
        }
        if let Some(input) = input.as_object_mut() {
            input.remove("capabilities");
        }
        input
    }

    fn arguments(&self) -> String {
        let Pod {
            uid,
            namespace,
            name,
            ..
        } = self.pod;
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
             K8S_POD_INFRA_CONTAINER_ID={uid};K8S_POD_UID={uid}"
        )
    }

    async fn execute(
        &self,
        program: &Path,
        input: &[u8],
    ) -> std::io::Result<(bool, Vec<u8>, Vec<u8>)> {
        let mut child = Command::new(program)
            .env("CNI_COMMAND", self.command)
            .env("CNI_CONTAINERID", &self.pod.uid)
            .env("CNI_NETNS", self.netns)
            .env("CNI_IFNAME", self.link)
            .env("CNI_ARGS", self.arguments())
            .env("CNI_PATH", self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let talk = async {
            let write = async move {
                // A plugin that does not read what it is told may end first.
                let _ = stdin.write_all(input).await;
            };
            let read_out = async { stdout.take(OUTPUT_MAX).read_to_end(&mut out).await };
            let read_err = async { stderr.take(OUTPUT_MAX).read_to_end(&mut err).await };
            let ((), read_out, read_err) = tokio::join!(write, read_out, read_err);
            read_out?;
            read_err?;
            child.wait().await
        };
        let status = tokio::time::timeout(self.timeout, talk).await;
        let status = status.map_err(|_| {
            std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("it did not end in {:?}", self.timeout),
            )
        })??;
        Ok((status.success(), out, err))
    }

    /// The error as the plugin tells it, else whatever it printed.
    fn failure(&self, plugin: &Value, stdout: &[u8], stderr: &[u8]) -> Error {
        let told: Value = serde_json::from_slice(stdout).unwrap_or(json!(null));
        let mut message = told["msg"].as_str().unwrap_or_default().to_owned();
        if let Some(details) = told["details"]
            .as_str()
            .filter(|details| !details.is_empty())
        {
            message = format!("{message}; {details}");
        }
        if message.is_empty() {
            let printed = if stderr.is_empty() { stdout } else { stderr };
            message = String::from_utf8_lossy(&printed[..printed.len().min(1024)])
                .trim()
                .into();
        }
        Error::Plugin {
            plugin: kind(plugin).to_owned(),
            network: self.list.name.clone(),
            command: self.command,
            message,
        }
    }
}
