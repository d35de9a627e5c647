//! What a runner says of the machine it runs on.

use serde::{Deserialize, Serialize};

/// A runner's machine and limits; measured by the runner, overridable in its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// `x64`, `arm64`, `x86` or `arm`.
    #[cfg_attr(feature = "openapi", schemars(extend("enum" = ["x64", "arm64", "x86", "arm"])))]
    pub architecture: String,
    /// `linux`, `windows` or `macos`.
    #[cfg_attr(feature = "openapi", schemars(extend("enum" = ["linux", "windows", "macos"])))]
    pub operating_system: String,
    /// Memory in GiB, rounded down.
    #[serde(default)]
    pub memory_gb: u32,
    /// Usable processors.
    #[serde(default)]
    pub cpu_cores: u32,
    /// Free disk in GiB where jobs work, rounded down.
    #[serde(default)]
    pub disk_space_gb: u32,
    /// A Docker engine answers.
    #[serde(default)]
    pub docker_enabled: bool,
    /// A Kubernetes cluster answers.
    #[serde(default)]
    pub kubernetes_enabled: bool,
    /// A GPU is present.
    #[serde(default)]
    pub gpu_enabled: bool,
    /// Memory of the largest GPU in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory_gb: Option<u32>,
    /// How many jobs the runner takes at once; at least 1.
    #[serde(default = "one")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = 1000)))]
    pub max_parallel_jobs: u32,
    /// Actions that the runner holds locally, as `owner/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schemars(length(max = 256)))]
    pub supported_actions: Vec<String>,
}

const fn one() -> u32 {
    1
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            architecture: "x64".to_owned(),
            operating_system: "linux".to_owned(),
            memory_gb: 0,
            cpu_cores: 1,
            disk_space_gb: 0,
            docker_enabled: false,
            kubernetes_enabled: false,
            gpu_enabled: false,
            gpu_memory_gb: None,
            max_parallel_jobs: 1,
            supported_actions: Vec::new(),
        }
    }
}
