//! nginx with the module nchan.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use super::process::{self, Process};
use super::{Dialect, Running, first_line};

const NGINX: &str = "/usr/sbin/nginx";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
const CONFIG: &str = "nginx.conf";

/// Messages that it keeps of a topic: as many as any load has in flight. With 0 it is no
/// cheaper, and now and then a subscriber misses some.
const KEPT: u32 = 128;

pub(super) fn start() -> Result<Running, String> {
    let folder = process::folder()?;
    let address = free_address().map_err(|error| format!("no free port: {error}"))?;
    let config = folder.path().join(CONFIG);
    fs::write(&config, text(folder.path(), address))
        .map_err(|error| format!("cannot write {}: {error}", config.display()))?;
    let stop = command(folder.path(), &["-s", "stop"]);
    let command = command(folder.path(), &[]);
    let mut process = Process::start(command, folder)?.stopped_by(stop);
    let address = process.listens(address)?;
    Ok(Running { process, address, speaks: Dialect::Common })
}

pub(super) fn version() -> Result<String, String> {
    if !Path::new(NGINX).exists() || !Path::new(MODULE).exists() {
        return Err(
            "no nginx with nchan, which Debian's packages nginx-core and libnginx-mod-nchan bring"
                .into(),
        );
    }
    let nginx = first_line(NGINX, &["-v"]).unwrap_or_default();
    let nginx = nginx.rsplit('/').next().unwrap_or("?");
    let nchan = first_line("dpkg-query", &["-W", "-f=${Version}", "libnginx-mod-nchan"]);
    Ok(format!(
        "nginx {nginx}, nchan {}, two workers, keeps {KEPT} messages of a topic",
        nchan.as_deref().unwrap_or("?")
    ))
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(NGINX);
    command.arg("-p").arg(folder).args(["-c", CONFIG, "-e", "stderr"]).args(args);
    command
}

/// nginx cannot choose a port by itself.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Each worker takes connections from a queue of its own (`reuseport`), so that both have
/// about the same number of subscribers.
fn text(folder: &Path, address: SocketAddr) -> String {
    // Only root changes users, and would change to nobody.
    let root = fs::metadata(folder).is_ok_and(|folder| folder.uid() == 0);
    let user = if root { "user root;" } else { "" };
    format!(
        r"load_module {MODULE};
{user}
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr warn;
events {{
    worker_connections 16384;
}}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    nchan_shared_memory_size 256M;
    server {{
        listen {address} reuseport backlog=4096;
        location ~ ^/pub/(.+)$ {{
            nchan_publisher http;
            nchan_channel_id $1;
            nchan_message_buffer_length {KEPT};
        }}
        location ~ ^/sub/(.+)$ {{
            nchan_subscriber websocket;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"
    )
}
