//! The shop: the page, its live news, and a load balancer in front of the nodes.

use std::{convert::Infallible, path::Path, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{
        Html, IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{get, post},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};

use crate::{Result, bank::Bank, journal::Journal, supervisor};

const PAGE: &str = include_str!("index.html");

#[derive(Clone)]
struct Shop {
    journal: Arc<Journal>,
    client: Client<HttpConnector, Body>,
}

pub(crate) async fn open(port: u16, folder: &Path) -> Result<()> {
    let journal = Arc::new(Journal::new(Bank::open(folder)?));
    let mut nodes = JoinSet::new();
    for name in ["A", "B"] {
        nodes.spawn(supervisor::keep_running(name, folder.to_owned(), Arc::clone(&journal)));
    }
    let app = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/news", get(news))
        .route("/start-over", post(start_over))
        .fallback(forward)
        .with_state(Shop { journal, client: Client::builder(TokioExecutor::new()).build_http() });
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}\n\n# Open it in a browser. Ctrl-C ends it, and removes the files it has made");
    tokio::select! {
        ended = async { axum::serve(listener, app).await } => Ok(ended?),
        Some(ended) = nodes.join_next() => ended?,
    }
}

async fn news(State(shop): State<Shop>) -> Sse<impl Stream<Item = std::result::Result<Event, Infallible>>> {
    let lines = UnboundedReceiverStream::new(shop.journal.follow());
    Sse::new(lines.map(|line| Ok(Event::default().data(line)))).keep_alive(KeepAlive::default())
}

async fn start_over(State(shop): State<Shop>) -> StatusCode {
    match shop.journal.start_over() {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// To the next node. When the client leaves, this is dropped, and with it the request to the node.
async fn forward(State(shop): State<Shop>, mut request: Request) -> Response {
    let Some(port) = shop.journal.next_node() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no node is up\n").into_response();
    };
    let path = request.uri().path().to_owned();
    let Ok(uri) = Uri::builder().scheme("http").authority(format!("127.0.0.1:{port}")).path_and_query(path).build()
    else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    match shop.client.request(request).await {
        Ok(response) => response.map(Body::new),
        Err(_) => (StatusCode::BAD_GATEWAY, "the node has died\n").into_response(),
    }
}
