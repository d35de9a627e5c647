use std::os::unix::net::UnixListener;

use super::*;

fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

const MEMINFO: &str = "MemTotal:       33554432 kB\nMemFree:  100 kB\nMemAvailable:   16777216 kB\n";

#[test]
fn memory_is_the_machines_or_that_of_the_smaller_control_group() {
    let root = machine(&[("proc/meminfo", MEMINFO), ("sys/fs/cgroup/memory.max", "max\n")]);
    assert_eq!(memory(root.path()), Some((32 << 30, 16 << 30)));
    let limit = (8_u64 << 30).to_string();
    let used = (3_u64 << 30).to_string();
    let root = machine(&[
        ("proc/meminfo", MEMINFO),
        ("sys/fs/cgroup/memory.max", &limit),
        ("sys/fs/cgroup/memory.current", &used),
    ]);
    assert_eq!(memory(root.path()), Some((8 << 30, 5 << 30)));
}

#[test]
fn docker_counts_only_when_somebody_listens() {
    let root = machine(&[("var/run/other", "")]);
    let socket = root.path().join("var/run/docker.sock");
    let detect = || measure(root.path(), root.path(), 1, &Overrides::default());
    assert!(!detect().docker_enabled);
    let listener = UnixListener::bind(&socket).unwrap();
    assert!(detect().docker_enabled);
    drop(listener);
    assert!(socket.exists() && !detect().docker_enabled);
}

#[test]
fn kubernetes_and_gpus_are_found_by_their_files() {
    let root = machine(&[("var/run/secrets/kubernetes.io/serviceaccount/token", "x"), ("dev/nvidia0", "")]);
    let found = measure(root.path(), root.path(), 3, &Overrides::default());
    assert!(found.kubernetes_enabled && found.gpu_enabled);
    assert_eq!(found.max_parallel_jobs, 3);
    let bare = machine(&[("proc/meminfo", MEMINFO)]);
    let found = measure(bare.path(), bare.path(), 1, &Overrides::default());
    assert!(!found.kubernetes_enabled && !found.gpu_enabled);
}

#[test]
fn overrides_have_the_last_word() {
    let root = machine(&[("proc/meminfo", MEMINFO), ("dev/nvidia0", "")]);
    let overrides = Overrides {
        memory_gb: Some(7),
        gpu_enabled: Some(false),
        disk_space_gb: Some(5),
        docker_enabled: Some(true),
        ..Overrides::default()
    };
    let found = measure(root.path(), root.path(), 1, &overrides);
    assert_eq!((found.memory_gb, found.disk_space_gb), (7, 5));
    assert!(found.docker_enabled && !found.gpu_enabled);
}

#[test]
fn this_machine_has_a_processor_and_a_name() {
    let found = detect(Path::new("/no/such/directory/yet"), 1, &Overrides::default());
    assert!(found.cpu_cores >= 1);
    assert!(!default_name().is_empty() && default_name().len() <= 64);
    assert_eq!(default_labels()[0], "self-hosted");
}

#[test]
fn a_little_more_or_less_free_disk_is_no_news() {
    let old = Capabilities { disk_space_gb: 100, ..Capabilities::default() };
    assert!(!differs(&old, &Capabilities { disk_space_gb: 91, ..old.clone() }));
    assert!(differs(&old, &Capabilities { disk_space_gb: 80, ..old.clone() }));
    assert!(differs(&old, &Capabilities { docker_enabled: true, ..old.clone() }));
}

#[test]
fn load_is_told_in_per_cent() {
    assert_eq!(processor_times("cpu  10 0 30 50 10 0 0 0 5 5\ncpu0 1 2 3\n"), Some((40, 100)));
    assert!((per_cent(1, 8) - 12.5).abs() < f64::EPSILON);
    assert!((per_cent(9, 8) - 100.0).abs() < f64::EPSILON);
    assert!(per_cent(1, 0).abs() < f64::EPSILON);
}
