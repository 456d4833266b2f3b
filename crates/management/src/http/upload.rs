//! A file that comes as the body of a request, or in a form as browsers send it.

use std::sync::Arc;

use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header::CONTENT_TYPE;

use super::answer::Refusal;
use super::ask::{BODY_TIMEOUT, Whole};
use crate::api::Api;

/// rabbitmq: the name of the field with the file
const FILE: &str = "file";

/// The file.
pub(crate) struct Uploaded(pub(crate) Vec<u8>);

impl FromRequest<Arc<Api>> for Uploaded {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Refusal> {
        let kind = request.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("multipart/form-data") {
            let Whole(bytes) = Whole::from_request(request, api).await?;
            return Ok(Self(bytes.to_vec()));
        }
        let form = Multipart::from_request(request, api).await;
        let form = form.map_err(|error| Refusal::bad(error.body_text()))?;
        let read = tokio::time::timeout(BODY_TIMEOUT, file_in(form)).await;
        read.map_err(|_| Refusal::Timeout)?.map(Self)
    }
}

async fn file_in(mut form: Multipart) -> Result<Vec<u8>, Refusal> {
    let wrong = |error: axum::extract::multipart::MultipartError| Refusal::bad(error.body_text());
    while let Some(field) = form.next_field().await.map_err(wrong)? {
        if field.name() == Some(FILE) {
            return Ok(field.bytes().await.map_err(wrong)?.to_vec());
        }
    }
    Err(Refusal::bad("the form has no field \"file\""))
}
