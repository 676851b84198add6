//! Routes of the contract that this build does not serve yet. They say so, rather than not being there.

use axum::Router;
use axum::routing::any;

use super::Shared;
use super::error::ApiError;
use super::extract::Caller;

const ROUTES: [&str; 7] = [
    "/api/v1/online/sessions",
    "/api/v1/online/sessions/{session_id}",
    "/api/v1/online/sessions/{session_id}/prompt",
    "/api/v1/online/sessions/{session_id}/reward",
    "/api/v1/online/sessions/{session_id}/events",
    "/api/systems/{system_id}/candidates",
    "/api/systems/{system_id}/seed-evals",
];

/// The session routes, all answering 501.
pub(super) fn routes() -> Router<Shared> {
    ROUTES.iter().fold(Router::new(), |router, route| router.route(route, any(not_yet)))
}

async fn not_yet(_: Caller) -> ApiError {
    ApiError::not_implemented(
        "session routes are not served by this build yet; create a job with POST /api/prompt-learning/online/jobs",
    )
}
