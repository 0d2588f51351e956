// For the examples of this documentation: posts `body` with `headers`, and returns what the layer has done with it.
async fn send(app: &axum::Router, headers: &[(&str, &str)], body: &'static str) -> Option<tower_idempotency::Outcome> {
    let request = http::Request::post("/payments");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(axum::body::Body::from(body)).unwrap();
    tower::ServiceExt::oneshot(app.clone(), request).await.unwrap().extensions().get().copied()
}
