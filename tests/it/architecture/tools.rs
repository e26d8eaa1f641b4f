//! CI ignores no test: it has every tool.

#[test]
#[cfg_attr(not(is_ci), ignore = "only CI must have every tool: CI is not set")]
fn every_tool_is_installed_in_ci() {
    let tools = [
        ("curl", cfg!(has_curl)),
        ("git", cfg!(has_git)),
        ("openssl", cfg!(has_openssl)),
        ("root, with unshare", cfg!(has_mount_namespaces)),
        ("node, and npm ci in tests/sdk", cfg!(has_octokit)),
        ("the Python packages of tests/sdk", cfg!(has_pygithub)),
    ];
    let missing: Vec<_> = tools.iter().filter(|(_, is_there)| !is_there).map(|(name, _)| name).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
