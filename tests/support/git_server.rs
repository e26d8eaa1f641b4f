//! A git host: `git http-backend` behind Basic auth. Every request's token is shown to the emulator.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::support::world::send;

/// Serves the bare repositories below `root` as `http://127.0.0.1:PORT/OWNER/NAME.git`.
pub struct GitServer {
    pub url: String,
    /// The tokens that were accepted.
    pub accepted: Arc<Mutex<Vec<String>>>,
}

impl GitServer {
    /// `github` is the API's address, `127.0.0.1:PORT`, which says whether a token may see a repository.
    pub async fn start(root: PathBuf, github: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, root.clone(), github.clone(), Arc::clone(&seen)));
            }
        });
        Self { url, accepted }
    }
}

async fn serve(stream: TcpStream, root: PathBuf, github: String, seen: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    while let Ok(1..) = stream.read_until(b'\n', &mut head).await {
        if head.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some((line, headers)) = head.split_once("\r\n") else { return };
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
    let headers: BTreeMap<_, _> = headers
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body = read_body(&mut stream, &headers).await;
    let request = Request { method, target, headers, body };
    let repository: Vec<_> = request.path().trim_start_matches('/').split('/').take(2).collect();
    let [owner, name] = repository.as_slice() else { return };
    let name = name.trim_end_matches(".git");
    let answer = match token(&request.headers) {
        Some(token) if may_see(&github, &token, owner, name).await => {
            seen.lock().unwrap().push(token);
            backend(&root, request).await
        }
        _ => b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
    };
    let _ = stream.get_mut().write_all(&answer).await;
}

struct Request {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

async fn read_body(stream: &mut BufReader<TcpStream>, headers: &BTreeMap<String, String>) -> Vec<u8> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).await.unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await.unwrap();
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return body;
            }
        }
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    body.resize(length, 0);
    stream.read_exact(&mut body).await.unwrap();
    body
}

/// The password of `x-access-token`.
fn token(headers: &BTreeMap<String, String>) -> Option<String> {
    let basic = STANDARD.decode(headers.get("authorization")?.strip_prefix("Basic ")?).ok()?;
    Some(String::from_utf8(basic).ok()?.strip_prefix("x-access-token:")?.to_owned())
}

async fn may_see(github: &str, token: &str, owner: &str, name: &str) -> bool {
    let request = format!(
        "GET /repos/{owner}/{name} HTTP/1.1\r\nHost: {github}\r\nUser-Agent: git-host\r\nAuthorization: token {token}\r\n\
         Connection: close\r\n\r\n"
    );
    send(github.parse().unwrap(), &request).await.is_some_and(|reply| reply.status == 200)
}

/// Runs git's own CGI program: <https://git-scm.com/docs/git-http-backend>.
async fn backend(root: &PathBuf, request: Request) -> Vec<u8> {
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "x-access-token")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", request.path())
        .env("QUERY_STRING", request.query())
        .env("CONTENT_TYPE", request.header("content-type"))
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding"))
        .env("GIT_PROTOCOL", request.header("git-protocol"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move {
        let _ = stdin.write_all(&request.body).await;
    });
    let output = child.wait_with_output().await.unwrap().stdout;
    feeding.await.unwrap();
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    let rest: String =
        head.lines().filter(|line| !line.starts_with("Status: ")).map(|line| format!("{line}\r\n")).collect();
    let content = &output[end + 4..];
    let head =
        format!("HTTP/1.1 {status}\r\n{rest}Content-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    [head.as_bytes(), content].concat()
}
