//! The floor under HTTP: an actix-web handler that reads the body and answers like `POST /v1/topics/{topic}`, and does nothing.

use actix_web::{App, HttpResponse, HttpServer, web};

async fn answer(body: web::Bytes) -> HttpResponse {
    let text = format!("{{\"partition\":0,\"offset\":{},\"timestamp\":0}}", body.len());
    HttpResponse::Ok().content_type("application/json").body(text)
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18080".to_owned());
    // As many workers as the broker has.
    let app = || App::new().route("/v1/topics/{topic}", web::post().to(answer));
    actix_rt::System::new().block_on(HttpServer::new(app).workers(1).bind(address)?.run())
}
