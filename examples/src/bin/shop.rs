//! The service of a web shop. `POST /orders` requests a price, writes the order and its event in one transaction (the
//! outbox), and answers 202. Handlers move the order on: placed, paid, shipped. Tests: `tests/broker_shop.rs`.
//!
//! Run it: `cargo xtask example shop`. Try: set AMQP_URL to keep the messages, and DATABASE (a file) to keep the
//! orders.
use std::{env, net::TcpListener, sync::Arc, time::Duration};

use actix_web::{HttpResponse, HttpServer, http::StatusCode, web};
use examples::shop::{OrderPaid, OrderPlaced, Price, PriceQuestion};
use fluffle::{Error, amqp::RequestErrorKind as Kind, prelude::*};
use fluffle_outbox::{Relay, Waker, sqlite};
use futures_util::FutureExt;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use tracing::{error, info};

const SCHEMA: &str = "create table if not exists orders (id integer primary key, item text not null, \
    quantity integer not null, cents integer not null, state text not null, parcels integer not null default 0)";

/// State of the HTTP server and the handlers, and also the handler actor of all three queues.
#[derive(Clone)]
struct Shop {
    db: SqlitePool,
    outbox: Waker,
    prices: Requester<PriceQuestion, Price>,
    placed: Arc<Route<OrderPlaced>>,
    paid: Arc<Route<OrderPaid>>,
}

#[derive(serde::Deserialize)]
struct NewOrder {
    item: String,
    quantity: u32,
}

async fn order(shop: web::Data<Shop>, order: web::Json<NewOrder>) -> HttpResponse {
    let question = PriceQuestion { item: order.item.clone(), quantity: order.quantity };
    let error = match shop.prices.request(question).await {
        Ok(Price { cents }) => {
            let placed = |id| HttpResponse::Accepted().json(json!({ "id": id, "cents": cents }));
            return shop.place(&order, cents).await.map_or_else(broken, placed);
        }
        Err(error) => error,
    };
    // There is no order. The kind of error says whether the request was refused, may be repeated, or may have been
    // handled.
    let said = json!({ "error": error.to_string() });
    match error.kind() {
        Kind::Refused { error, .. } => HttpResponse::UnprocessableEntity().json(json!({ "error": error })),
        Kind::TimedOut | Kind::ConnectionLost | Kind::Closed => HttpResponse::GatewayTimeout().json(said),
        _ if error.is_transient() => HttpResponse::ServiceUnavailable().insert_header(("Retry-After", "5")).json(said),
        _ => broken(error),
    }
}

async fn show(shop: web::Data<Shop>, id: web::Path<i64>) -> HttpResponse {
    let row = "select json_object('id', id, 'item', item, 'state', state, 'parcels', parcels) from orders where id = ?";
    match sqlx::query_scalar::<_, String>(row).bind(*id).fetch_optional(&shop.db).await {
        Ok(Some(order)) => HttpResponse::Ok().content_type("application/json").body(order),
        Ok(None) => HttpResponse::NotFound().finish(),
        Err(error) => broken(error),
    }
}

/// Logs the details, and does not show them to the customer.
fn broken(error: impl std::fmt::Display) -> HttpResponse {
    error!("{error}");
    HttpResponse::InternalServerError().finish()
}

/// Readiness: without a broker there are no prices, so the shop takes no customers.
async fn ready(service: web::Data<Service>) -> HttpResponse {
    let ready = matches!(service.ready().now_or_never(), Some(Ok(())));
    HttpResponse::new(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}

impl Shop {
    async fn place(&self, order: &NewOrder, cents: u32) -> Result<i64, Failure> {
        let mut tx = self.db.begin_with("begin immediate").await?;
        let insert = "insert into orders (item, quantity, cents, state) values (?, ?, ?, 'placed') returning id";
        let insert = sqlx::query_scalar(insert).bind(&order.item).bind(order.quantity).bind(cents);
        let order_id = insert.fetch_one(&mut *tx).await?;
        // The same transaction writes the order and its event, so neither exists without the other.
        sqlite::enqueue(&mut tx, &self.placed.prepare(&OrderPlaced { order_id }, &MessageOptions::new())?).await?;
        tx.commit().await?;
        self.outbox.wake();
        info!("order {order_id}: placed, {} {} for {cents} cents", order.quantity, order.item);
        Ok(order_id)
    }
}

impl Actor for Shop {
    type Context = Context<Self>;
}

/// Prices.
impl Handler<Delivery<PriceQuestion, Price>> for Shop {
    type Result = Result<Price, Failure>;

    fn handle(&mut self, question: Delivery<PriceQuestion, Price>, _: &mut Self::Context) -> Self::Result {
        let each = [("carrots", 25_u32), ("lettuce", 120)].into_iter().find(|(item, _)| *item == question.item);
        let cents = each.and_then(|(_, cents)| cents.checked_mul(question.quantity)).filter(|cents| *cents > 0);
        // `reject` is an answer: the requester gets `Refused`, and there is no dead letter.
        let no = || Failure::reject(format!("we do not sell {} {}", question.quantity, question.item));
        Ok(Price { cents: cents.ok_or_else(no)? })
    }
}

/// Payment.
impl Handler<Delivery<OrderPlaced>> for Shop {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, order: Delivery<OrderPlaced>, _: &mut Self::Context) -> Self::Result {
        let (shop, order_id) = (self.clone(), order.order_id);
        Box::pin(async move {
            let mut tx = shop.db.begin_with("begin immediate").await?;
            let pay = "update orders set state = 'paid' where id = ? and state = 'placed'";
            // Delivery is at least once. A second delivery finds nothing to update, and is acked.
            if sqlx::query(pay).bind(order_id).execute(&mut *tx).await?.rows_affected() == 1 {
                sqlite::enqueue(&mut tx, &shop.paid.prepare(&OrderPaid { order_id }, &MessageOptions::new())?).await?;
                tx.commit().await?;
                shop.outbox.wake();
                info!("order {order_id}: paid");
            }
            Ok(())
        })
    }
}

/// Shipping.
impl Handler<Delivery<OrderPaid>> for Shop {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, order: Delivery<OrderPaid>, _: &mut Self::Context) -> Self::Result {
        let (shop, order_id) = (self.clone(), order.order_id);
        Box::pin(async move {
            info!("order {order_id}: packing");
            tokio::time::sleep(Duration::from_millis(500)).await;
            let ship = "update orders set state = 'shipped', parcels = parcels + 1 where id = ? and state = 'paid'";
            if sqlx::query(ship).bind(order_id).execute(&shop.db).await?.rows_affected() == 1 {
                info!("order {order_id}: shipped");
            }
            Ok(())
        })
    }
}

fn assemble(broker: Broker, db: SqlitePool) -> (App, Shop) {
    let topology = Topology::new()
        .exchange(Exchange::topic("orders"))
        .queue(Queue::quorum("prices"))
        .queue(Queue::quorum("payment").bind("orders", "placed").dead_letter())
        .queue(Queue::quorum("shipping").bind("orders", "paid").dead_letter());
    let app = App::new(broker).topology(topology);
    let relay = Relay::new(db.clone(), app.forwarder("outbox"));
    // A customer waits for the price, so use less than the default of 30 s.
    let prices = app.requester(Route::queue("prices").deadline(Duration::from_secs(2)));
    let (placed, paid) = (Route::exchange("orders").key("placed").into(), Route::exchange("orders").key("paid").into());
    let shop = Shop { db, outbox: relay.waker(), prices, placed, paid };
    let actor = shop.clone();
    let actor = move || actor.clone();
    let app = app.consume(Consume::<PriceQuestion, Price>::queue("prices"), actor.clone());
    let app = app.consume(Consume::<OrderPlaced>::queue("payment"), actor.clone());
    (app.consume(Consume::<OrderPaid>::queue("shipping"), actor).supervise(relay), shop)
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging_from("warn,lapin=off,shop=info");
    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let bound = TcpListener::bind(format!("127.0.0.1:{port}"));
    let bound =
        bound.map_err(|error| Error::other(format!("127.0.0.1:{port}: {error}; PORT=0 takes any free port")))?;
    let (address, folder) = (bound.local_addr()?, tempfile::tempdir()?);
    let file = env::var_os("DATABASE").map_or_else(|| folder.path().join("shop.db"), Into::into);
    let file = SqliteConnectOptions::new().filename(file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    // SQLite allows one writer at a time. With one connection, the others wait in the pool instead of failing with
    // "busy".
    let db = SqlitePoolOptions::new().max_connections(1).connect_with(file).await.map_err(Error::other)?;
    sqlite::migrate(&db).await.map_err(Error::other)?;
    sqlx::raw_sql(SCHEMA).execute(&db).await.map_err(Error::other)?;

    let (app, shop) = assemble(Broker::from_env_or_embedded()?, db);
    let service = app.start().await?;
    let (shop, probed) = (web::Data::new(shop), web::Data::new(service.clone()));
    let http = HttpServer::new(move || {
        let app = actix_web::App::new().app_data(shop.clone()).app_data(probed.clone());
        app.route("/orders", web::post().to(order))
            .route("/orders/{id}", web::get().to(show))
            // Liveness ignores the broker: the service reconnects by itself, and a restart would not be faster.
            .route("/live", web::get().to(HttpResponse::Ok))
            .route("/ready", web::get().to(ready))
    });
    println!("\nThe shop is open on http://{address}\n\nTry, in another terminal:\n");
    println!("  curl -i {address}/orders -H content-type:application/json \\");
    println!("       -d '{{\"item\": \"carrots\", \"quantity\": 3}}'");
    println!("  curl -i {address}/orders/1\n  curl -i {address}/ready\n\nCtrl-C closes it.\n");
    tokio::select! {
        // SIGTERM or Ctrl-C ends HTTP first, so that waiting customers still get their answers. Its limit of 5 s and
        // the 15 s of the drain are within the 30 s that Kubernetes allows.
        served = http.shutdown_timeout(5).listen(bound)?.run() => served?,
        // The service gave up, for example over a wrong password. End the process, because HTTP is useless without it.
        ended = service.wait() => return Ok(ended?),
    }
    info!("closing: what was begun is finished first");
    Ok(service.shutdown().await?)
}
