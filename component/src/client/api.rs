//! The typed API of one kind.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decode::{self, Decoders};
use super::encoding::Form;
use super::send::Call;
use super::uri::{path_escape, query_escape};
use super::watch::WatchStream;
use super::{Client, Error, Kind, List, Object, Patch, Target};

/// The objects of one kind, in one namespace or in all.
#[derive(Clone, Debug)]
pub struct Api<K> {
    client: Client,
    target: Target,
    collection: String,
    kind: PhantomData<fn() -> K>,
}

/// Which objects to list, and as of when.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ListParams {
    pub label_selector: String,
    pub field_selector: String,
    /// Objects in one page; 0 means all.
    pub limit: u32,
    /// Where the last page ended.
    pub continue_token: String,
    /// None: the newest state. `0`: any state that the server has at hand.
    pub resource_version: Option<String>,
    pub resource_version_match: Option<ResourceVersionMatch>,
}

/// How exactly a list's version is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ResourceVersionMatch {
    Exact,
    NotOlderThan,
}

impl ResourceVersionMatch {
    fn name(self) -> &'static str {
        match self {
            Self::Exact => "Exact",
            Self::NotOlderThan => "NotOlderThan",
        }
    }
}

/// Which objects to watch, and from when on.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct WatchParams {
    pub label_selector: String,
    pub field_selector: String,
    /// Events after this version.
    pub resource_version: String,
    /// Tell from time to time how far the watch has come.
    pub bookmarks: bool,
    /// Begin with all objects that there are, ended by a bookmark that says so.
    pub send_initial_events: bool,
    /// The server ends the watch after so many seconds; 0 leaves it to the server.
    pub timeout_seconds: u32,
}

impl<K: Kind> Api<K> {
    pub(crate) fn new(client: Client, target: Target, namespace: Option<&str>) -> Self {
        let collection = target.path(namespace);
        Self {
            client,
            target,
            collection,
            kind: PhantomData,
        }
    }

    /// The resource that it speaks of.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The client that it uses.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn path(&self, name: &str, subresource: &str) -> String {
        let slash = if subresource.is_empty() { "" } else { "/" };
        format!(
            "{}/{}{slash}{subresource}",
            self.collection,
            path_escape(name)
        )
    }

    fn form(&self) -> Form {
        Form::of::<K>(&self.target)
    }

    /// Reads an object as it is now.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn get(&self, name: &str) -> Result<K, Error> {
        let call = Call::new(Method::GET, self.path(name, "")).accept(self.form().object());
        self.client.object(call, &self.target).await
    }

    /// Reads an object as it is now, or none if there is none.
    ///
    /// # Errors
    /// If the server cannot be asked or refuses.
    pub async fn find(&self, name: &str) -> Result<Option<K>, Error> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Lists objects, one page.
    ///
    /// # Errors
    /// `Expired` if the version or the page is too old.
    pub async fn list(&self, params: &ListParams) -> Result<List<K>, Error> {
        let call = list(&self.collection, self.form(), params);
        let body = self.client.whole(call).await?;
        decode::list(&body, &self.target)
    }

    /// Watches objects.
    ///
    /// # Errors
    /// `Expired` if the version is too old; it may also come as the first event.
    pub async fn watch(&self, params: &WatchParams) -> Result<WatchStream<K>, Error> {
        let call = watch(&self.collection, self.form(), params);
        let response = self.client.send(call).await?;
        let (host, target) = (self.client.host(), &self.target);
        Ok(WatchStream::new(response, host, target, decode::object))
    }

    /// The same objects for code that does not know their kind.
    pub(crate) fn objects(self) -> Objects {
        Objects {
            form: self.form(),
            client: self.client,
            target: self.target,
            collection: self.collection,
            decode: Decoders::of::<K>(),
        }
    }

    /// Creates an object.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of that name.
    pub async fn create(&self, object: &K) -> Result<K, Error> {
        let call = Call::new(Method::POST, self.collection.clone())
            .accept(self.form().object())
            .json(object)?;
        self.client.object(call, &self.target).await
    }

    /// Replaces an object that belongs to the caller alone. Its resource version, if set, must be the
    /// current one. Fields that this build does not know are lost.
    ///
    /// # Errors
    /// `Conflict` if it changed meanwhile.
    pub async fn replace(&self, object: &K) -> Result<K, Error> {
        self.replace_subresource("", object).await
    }

    /// Replaces the status of an object, under the same conditions.
    ///
    /// # Errors
    /// `Conflict` if it changed meanwhile.
    pub async fn replace_status(&self, object: &K) -> Result<K, Error> {
        self.replace_subresource("status", object).await
    }

    async fn replace_subresource(&self, subresource: &str, object: &K) -> Result<K, Error> {
        let name = object.metadata().name.as_deref().unwrap_or_default();
        let call = Call::new(Method::PUT, self.path(name, subresource))
            .accept(self.form().object())
            .json(object)?;
        self.client.object(call, &self.target).await
    }

    /// Changes an object.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if the patch names a version that is not the current one.
    pub async fn patch(&self, name: &str, patch: &Patch) -> Result<K, Error> {
        self.patch_subresource(name, "", patch).await
    }

    /// Changes an object's status.
    ///
    /// # Errors
    /// As [`Api::patch`].
    pub async fn patch_status(&self, name: &str, patch: &Patch) -> Result<K, Error> {
        self.patch_subresource(name, "status", patch).await
    }

    /// Changes a subresource whose body is the object itself.
    ///
    /// # Errors
    /// As [`Api::patch`].
    pub async fn patch_subresource(
        &self,
        name: &str,
        subresource: &str,
        patch: &Patch,
    ) -> Result<K, Error> {
        let mut call =
            Call::new(Method::PATCH, self.path(name, subresource)).accept(self.form().object());
        call.query("fieldManager", patch.manager.as_deref().unwrap_or_default());
        if patch.force {
            call.query("force", "true");
        }
        self.client
            .object(
                call.body(patch.media_type, patch.body.clone()),
                &self.target,
            )
            .await
    }

    /// Deletes an object. It may still be there afterwards, being deleted.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if a precondition does not hold.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<(), Error> {
        let call = Call::new(Method::DELETE, self.path(name, "")).json(options)?;
        self.client.send(call).await.map(drop)
    }

    /// Deletes all objects that the parameters select.
    ///
    /// # Errors
    /// If the server refuses; some objects may be deleted then.
    pub async fn delete_collection(
        &self,
        options: &DeleteOptions,
        params: &ListParams,
    ) -> Result<(), Error> {
        let mut call = Call::new(Method::DELETE, self.collection.clone()).json(options)?;
        call.query("labelSelector", &params.label_selector);
        call.query("fieldSelector", &params.field_selector);
        self.client.send(call).await.map(drop)
    }

    /// Posts to a subresource: `binding`, `eviction`, `token`.
    ///
    /// # Errors
    /// What the subresource says.
    pub async fn create_subresource<B: Serialize, R: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<R, Error> {
        let call = Call::new(Method::POST, self.path(name, subresource)).json(body)?;
        self.client.json(call).await
    }

    /// Reads a subresource as bytes: a pod's log.
    ///
    /// # Errors
    /// What the subresource says.
    pub async fn get_subresource(
        &self,
        name: &str,
        subresource: &str,
        query: &[(&str, &str)],
    ) -> Result<http::Response<hyper::body::Incoming>, Error> {
        let mut call = Call::new(Method::GET, self.path(name, subresource)).accept("*/*");
        for (key, value) in query {
            call.query(key, value);
        }
        self.client.send(call.without_timeout()).await
    }
}

/// The objects of a kind that the caller does not know, without managed fields.
pub(crate) struct Objects {
    client: Client,
    target: Target,
    collection: String,
    form: Form,
    decode: Decoders,
}

impl Objects {
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// As [`Api::list`].
    pub(crate) async fn list(&self, params: &ListParams) -> Result<List<Arc<dyn Object>>, Error> {
        let call = list(&self.collection, self.form, params);
        let body = self.client.whole(call).await?;
        (self.decode.list)(&body, &self.target)
    }

    /// As [`Api::watch`].
    pub(crate) async fn watch(
        &self,
        params: &WatchParams,
    ) -> Result<WatchStream<Arc<dyn Object>>, Error> {
        let call = watch(&self.collection, self.form, params);
        let response = self.client.send(call).await?;
        let (host, target) = (self.client.host(), &self.target);
        Ok(WatchStream::new(response, host, target, self.decode.object))
    }
}

fn list(collection: &str, form: Form, params: &ListParams) -> Call {
    let mut call = Call::new(Method::GET, collection.to_owned()).accept(form.list());
    call.query("labelSelector", &params.label_selector);
    call.query("fieldSelector", &params.field_selector);
    if params.limit > 0 {
        call.query("limit", &params.limit.to_string());
    }
    call.query("continue", &params.continue_token);
    call.query(
        "resourceVersion",
        params.resource_version.as_deref().unwrap_or_default(),
    );
    call.query(
        "resourceVersionMatch",
        params
            .resource_version_match
            .map_or("", ResourceVersionMatch::name),
    );
    call
}

fn watch(collection: &str, form: Form, params: &WatchParams) -> Call {
    let mut call = Call::new(Method::GET, collection.to_owned()).accept(form.watch());
    call.query("watch", "true");
    call.query("labelSelector", &params.label_selector);
    call.query("fieldSelector", &params.field_selector);
    call.query("resourceVersion", &params.resource_version);
    if params.bookmarks || params.send_initial_events {
        call.query("allowWatchBookmarks", "true");
    }
    if params.send_initial_events {
        call.query("sendInitialEvents", "true");
        call.query(
            "resourceVersionMatch",
            ResourceVersionMatch::NotOlderThan.name(),
        );
    }
    if params.timeout_seconds > 0 {
        call.query("timeoutSeconds", &params.timeout_seconds.to_string());
    }
    call.without_timeout()
}

impl Client {
    /// Sends a request that no typed call covers and reads a JSON answer. `path` is escaped already.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn request<R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&impl Serialize>,
    ) -> Result<R, Error> {
        let mut call = Call::new(method, path.to_owned());
        for (key, value) in query {
            call.query(key, value);
        }
        let call = match body {
            Some(body) => call.json(body)?,
            None => call,
        };
        self.json(call).await
    }

    /// Sends bytes and returns the answer's head and stream, for what is not JSON. An answer that is
    /// not a success is an error.
    ///
    /// # Errors
    /// As for all requests.
    pub async fn raw(
        &self,
        method: Method,
        path_and_query: &str,
        accept: &str,
        content: Option<(&'static str, Bytes)>,
    ) -> Result<http::Response<hyper::body::Incoming>, Error> {
        let call = Call::new(method, path_and_query.to_owned())
            .accept(accept)
            .without_timeout();
        let call = match content {
            Some((media_type, body)) => call.body(media_type, body),
            None => call,
        };
        self.send(call).await
    }
}

/// `key=value&...`, escaped.
pub(super) fn push_query(path: &mut String, key: &str, value: &str) {
    path.push(if path.contains('?') { '&' } else { '?' });
    path.push_str(key);
    path.push('=');
    path.push_str(&query_escape(value));
}
