//! The service `payments.Payments`, as tonic's code generator would write it, so that building it needs no `protoc`.
//!
//! ```proto
//! service Payments {
//!   rpc Pay(PaymentRequest) returns (Payment);
//!   rpc History(HistoryRequest) returns (stream Payment);
//! }
//! ```

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tonic::{
    Request, Response, Status,
    body::Body,
    client,
    codegen::{BoxFuture, http::uri::PathAndQuery},
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
    transport::Channel,
};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PaymentRequest {
    #[prost(uint64, tag = "1")]
    pub(crate) amount: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HistoryRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Payment {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) amount: u64,
}

const PAY: &str = "/payments.Payments/Pay";
const HISTORY: &str = "/payments.Payments/History";

/// The server: a list of payments.
#[derive(Clone, Default)]
pub(crate) struct Payments(Arc<Mutex<Vec<Payment>>>);

impl Payments {
    /// What was executed.
    pub(crate) fn executed(&self) -> Vec<Payment> {
        self.0.lock().unwrap().clone()
    }

    fn pay(&self, amount: u64) -> Result<Payment, Status> {
        if amount == 0 {
            return Err(Status::invalid_argument("an amount of 0 cannot be paid"));
        }
        let mut payments = self.0.lock().unwrap();
        let payment = Payment { id: payments.len() as u64 + 1, amount };
        payments.push(payment.clone());
        if amount == 13 {
            return Err(Status::unavailable("the bank is closed"));
        }
        Ok(payment)
    }
}

impl NamedService for Payments {
    const NAME: &'static str = "payments.Payments";
}

impl UnaryService<PaymentRequest> for Payments {
    type Response = Payment;
    type Future = BoxFuture<Response<Payment>, Status>;

    fn call(&mut self, request: Request<PaymentRequest>) -> Self::Future {
        let paid = self.pay(request.into_inner().amount).map(Response::new);
        Box::pin(async { paid })
    }
}

impl ServerStreamingService<HistoryRequest> for Payments {
    type Response = Payment;
    type ResponseStream = tokio_stream::Iter<std::vec::IntoIter<Result<Payment, Status>>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, _: Request<HistoryRequest>) -> Self::Future {
        let mut payments: Vec<_> = self.executed().into_iter().map(Ok).collect();
        if payments.is_empty() {
            payments.push(Err(Status::not_found("nothing was paid yet")));
        }
        Box::pin(async { Ok(Response::new(tokio_stream::iter(payments))) })
    }
}

impl<B> tower::Service<http::Request<B>> for Payments
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                PAY => Grpc::new(ProstCodec::default()).unary(service, request).await,
                HISTORY => Grpc::new(ProstCodec::default()).server_streaming(service, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// The client.
pub(crate) struct PaymentsClient(client::Grpc<Channel>);

impl PaymentsClient {
    pub(crate) async fn connect(url: String) -> Result<Self, tonic::transport::Error> {
        Ok(Self(client::Grpc::new(Channel::from_shared(url).expect("a URL").connect().await?)))
    }

    pub(crate) async fn pay(&mut self, key: &str, amount: u64) -> Result<Response<Payment>, Status> {
        self.ready().await?;
        self.0
            .unary(with_key(PaymentRequest { amount }, key)?, PathAndQuery::from_static(PAY), ProstCodec::default())
            .await
    }

    pub(crate) async fn history(&mut self, key: &str) -> Result<Response<tonic::Streaming<Payment>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(HISTORY);
        self.0.server_streaming(with_key(HistoryRequest {}, key)?, path, ProstCodec::default()).await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// A request whose metadata carries an idempotency key.
fn with_key<T>(message: T, key: &str) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let key = key.parse().map_err(|_| Status::invalid_argument("the key is not ASCII"))?;
    request.metadata_mut().insert("idempotency-key", key);
    Ok(request)
}
