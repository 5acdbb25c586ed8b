//! What operators do to etcd and an API server never does: users and roles, alarms, defragmentation.
//! The messages are written down here, since the client's protocol is trimmed to what it needs.

use http::uri::PathAndQuery;
use tonic::Request;
use tonic_prost::ProstCodec;

use super::Direct;

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct UserAdd {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "3")]
    options: Option<UserOptions>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UserOptions {
    #[prost(bool, tag = "1")]
    no_password: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UserGrantRole {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    role: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RoleGrantPermission {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    permission: Option<Permission>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Permission {
    /// 2: to read and to write.
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Alarm {
    /// 2: disarm.
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(uint64, tag = "2")]
    member: u64,
    /// 1: the database is full.
    #[prost(int32, tag = "3")]
    kind: i32,
}

impl Direct {
    /// Demands a user from now on: `root` may do everything, `user` reads and writes below `prefix`.
    /// Both are known by the common names of their certificates.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn restrict(&self, user: &str, prefix: &str) {
        for name in ["root", user] {
            let (name, options) = (name.to_owned(), Some(UserOptions { no_password: true }));
            self.ask(
                "Auth/UserAdd",
                UserAdd {
                    name: name.clone(),
                    options,
                },
            )
            .await;
            self.ask("Auth/RoleAdd", Named { name: name.clone() }).await;
            let grant = UserGrantRole {
                user: name.clone(),
                role: name,
            };
            self.ask("Auth/UserGrantRole", grant).await;
        }
        let permission = Permission {
            kind: 2,
            key: prefix.into(),
            range_end: crate::etcd::prefix_end(prefix.as_bytes()).to_vec(),
        };
        let grant = RoleGrantPermission {
            name: user.to_owned(),
            permission: Some(permission),
        };
        self.ask("Auth/RoleGrantPermission", grant).await;
        self.ask("Auth/AuthEnable", Empty {}).await;
    }

    /// Gives room back that compaction has freed, and lets etcd take writes again.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn make_room(&self) {
        self.ask("Maintenance/Defragment", Empty {}).await;
        let disarm = Alarm {
            action: 2,
            member: self.header().await.member_id,
            kind: 1,
        };
        self.ask("Maintenance/Alarm", disarm).await;
    }

    async fn ask<M: prost::Message + 'static>(&self, method: &str, message: M) {
        let path = PathAndQuery::try_from(format!("/etcdserverpb.{method}"))
            .expect("the names of methods are valid paths");
        let mut grpc = tonic::client::Grpc::new(self.client.channel());
        grpc.ready().await.expect("etcd can be reached");
        let codec = ProstCodec::<M, Empty>::default();
        let answer = grpc.unary(Request::new(message), path, codec).await;
        answer.unwrap_or_else(|status| panic!("{method}: {status}"));
    }
}
