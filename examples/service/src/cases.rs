//! Handlers. A real service asks the system of record here.

use axum::{Extension, Json, extract::State};
use tokio::sync::mpsc;

use crate::{Changed, auth::User};

/// Access to the system of record.
#[derive(Clone)]
pub(crate) struct Cases {
    messages: mpsc::Sender<Changed>,
}

impl Cases {
    pub(crate) fn new(messages: mpsc::Sender<Changed>) -> Self {
        Self { messages }
    }
}

/// Lists the cases of the user's tenant.
pub(crate) async fn list(Extension(user): Extension<User>) -> Json<Vec<String>> {
    Json(vec![format!("a case of {}", user.tenant)])
}

/// Creates a case.
pub(crate) async fn create() {}

/// Shows the user. Access by `root` stands in for a change that the system of record makes and announces.
pub(crate) async fn me(State(cases): State<Cases>, Extension(user): Extension<User>) -> String {
    if user.name == "root" {
        let changed = Changed { tenant: user.tenant };
        let _ = cases.messages.send(changed).await;
    }
    user.name
}
