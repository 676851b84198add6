//! Servers that run already. A link is put before one wherever its wire can be read; where it is encrypted, or there is
//! none, the service talks to it directly, and the version says so.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::parts::{Launcher, with_address};
use super::{Blobs, Database, Error};
use crate::postgres;

const NO_LINK: &str = "no emulated link";

pub(super) async fn database(launcher: &Launcher<'_>, url: &str) -> Result<Database, Error> {
    let error = |reason: &str| Error::Url { what: "database", reason: reason.to_owned() };
    let parsed = Url::parse(url).map_err(|_| error("it is no URL"))?;
    match parsed.scheme() {
        "postgres" | "postgresql" => {}
        "sqlite" => {
            return Ok(Database {
                url: url.to_owned(),
                direct_url: url.to_owned(),
                version: format!("external SQLite, {NO_LINK}"),
                link: None,
                has_statements: false,
                keeper: None,
            });
        }
        _ => return Err(error("expected postgres://… or sqlite:…")),
    }
    let link = if may_be_encrypted(&parsed) {
        None
    } else {
        let upstream = address_of(&parsed, 5432).await.ok_or_else(|| error("its host has no address"))?;
        Some(launcher.database_link(upstream).await?)
    };
    let linked_url = link.as_ref().and_then(|link| with_address(url, link.addr));
    let version = postgres::version(url).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the external database did not tell its version");
        "of unknown version".to_owned()
    });
    let note = if link.is_some() { String::new() } else { format!(", {NO_LINK}") };
    Ok(Database {
        url: linked_url.unwrap_or_else(|| url.to_owned()),
        direct_url: url.to_owned(),
        version: format!("external PostgreSQL {version}{note}"),
        has_statements: postgres::server_statements(url).await.is_ok(),
        link,
        keeper: None,
    })
}

pub(super) async fn blobs(launcher: &Launcher<'_>, url: &str) -> Result<Blobs, Error> {
    let error = |reason: &str| Error::Url { what: "blobs", reason: reason.to_owned() };
    let parsed = Url::parse(url).map_err(|_| error("it is no URL"))?;
    let unlinked = |what: &str| Blobs {
        url: url.to_owned(),
        version: format!("external {what}, {NO_LINK}"),
        link: None,
        keys: None,
        server: None,
    };
    match parsed.scheme() {
        "s3" => {}
        "file" => return Ok(unlinked("directory")),
        "memory" => return Ok(unlinked("memory")),
        _ => return Err(error("expected s3://bucket/prefix?endpoint=…, file:///… or memory:")),
    }
    let endpoint =
        parsed.query_pairs().find(|(key, _)| key == "endpoint").map(|(_, value)| value.into_owned());
    let Some(endpoint) = endpoint.filter(|endpoint| endpoint.starts_with("http://")) else {
        return Ok(unlinked("S3 over TLS"));
    };
    let endpoint = Url::parse(&endpoint).map_err(|_| error("its endpoint is no URL"))?;
    let upstream =
        address_of(&endpoint, 80).await.ok_or_else(|| error("its endpoint's host has no address"))?;
    let link = launcher.blobs_link(upstream).await?;
    Ok(Blobs {
        url: with_endpoint(&parsed, link.addr),
        version: "external S3".to_owned(),
        link: Some(link),
        keys: None,
        server: None,
    })
}

/// The same store, at another endpoint.
pub(super) fn with_endpoint(url: &Url, address: SocketAddr) -> String {
    let others = url.query_pairs().filter(|(key, _)| key != "endpoint");
    let others: Vec<(String, String)> =
        others.map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair("endpoint", &format!("http://{address}"));
    url.into()
}

/// Clients ask for TLS unless told not to, and servers in other places usually grant it.
pub(super) fn may_be_encrypted(url: &Url) -> bool {
    let is_off = url.query_pairs().any(|(key, value)| key == "sslmode" && value == "disable");
    !is_off && !is_loopback(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        None => false,
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    }
}

async fn address_of(url: &Url, default_port: u16) -> Option<SocketAddr> {
    let port = url.port().unwrap_or(default_port);
    let host = match url.host()? {
        Host::Ipv4(ip) => return Some((ip, port).into()),
        Host::Ipv6(ip) => return Some((ip, port).into()),
        Host::Domain(host) => host.to_owned(),
    };
    tokio::net::lookup_host((host, port)).await.ok()?.next()
}
