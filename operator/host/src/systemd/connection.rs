//! One connection to systemd, with a deadline on every call.

use std::{collections::HashMap, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};
use zbus::{
    Connection, DynamicType, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, Type, connection,
    message,
};

use super::{Socket, SocketKind, SystemdError, private::PrivateSocket};

pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
const DESTINATION: &str = "org.freedesktop.systemd1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// systemd answers from memory in microseconds; while it reloads or re-executes it is silent for some seconds
/// (`systemctl` itself waits 25 s by default).
const CALL_TIMEOUT: Duration = Duration::from_secs(25);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Properties = HashMap<String, OwnedVariant>;

/// An open connection.
pub(super) struct Bus {
    connection: Connection,
}

impl Bus {
    pub(super) async fn connect(sockets: &[Socket]) -> Result<Self, SystemdError> {
        let mut why = String::from("no socket was tried");
        for socket in sockets {
            match timeout(CONNECT_TIMEOUT, Self::dial(socket)).await {
                Ok(Ok(bus)) => return Ok(bus),
                Ok(Err(error)) => why = format!("{}: {error}", socket.path.display()),
                Err(_) => why = format!("{}: no answer within 5 s", socket.path.display()),
            }
        }
        let tried: Vec<_> = sockets.iter().map(|socket| socket.path.display().to_string()).collect();
        Err(SystemdError::Unreachable { tried: tried.join(" or "), why })
    }

    async fn dial(socket: &Socket) -> zbus::Result<Self> {
        let stream = UnixStream::connect(&socket.path).await?;
        let connection = match socket.kind {
            SocketKind::MessageBus => connection::Builder::unix_stream(stream.into_std()?).build().await?,
            SocketKind::Private => connection::Builder::socket(PrivateSocket(stream)).p2p().build().await?,
        };
        let bus = Self { connection };
        if socket.kind == SocketKind::MessageBus {
            // A bus can outlive its systemd peer (a container with D-Bus alone): only an answer counts.
            bus.connection
                .call_method(Some(DESTINATION), MANAGER_PATH, Some(PROPERTIES), "Get", &(MANAGER, "Version"))
                .await?;
        }
        Ok(bus)
    }

    /// Calls a method of the manager object.
    pub(super) async fn manager<B, R>(&self, what: &str, method: &'static str, body: &B) -> Result<R, SystemdError>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        read(what, &self.call(what, MANAGER_PATH, MANAGER, method, body).await?)
    }

    /// All properties of one interface of an object.
    pub(super) async fn properties(
        &self,
        what: &str,
        path: &OwnedObjectPath,
        interface: &str,
    ) -> Result<Properties, SystemdError> {
        read(what, &self.call(what, path.as_str(), PROPERTIES, "GetAll", &(interface,)).await?)
    }

    async fn call<B>(
        &self,
        what: &str,
        path: &str,
        interface: &'static str,
        method: &'static str,
        body: &B,
    ) -> Result<Message, SystemdError>
    where
        B: Serialize + DynamicType,
    {
        let call = self.connection.call_method(Some(DESTINATION), path, Some(interface), method, body);
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(translate(what, error)),
            Err(_) => Err(SystemdError::Slow { what: what.to_owned(), after: CALL_TIMEOUT }),
        }
    }

    /// The `JobRemoved` signals from now on. On the private socket systemd sends them without being asked; on the bus
    /// it does once somebody has subscribed.
    pub(super) async fn removed_jobs(&self) -> Result<MessageStream, SystemdError> {
        const WHAT: &str = "a subscription to its signals";
        if self.connection.is_bus() {
            match self.manager::<_, ()>(WHAT, "Subscribe", &()).await {
                Err(error) if !error.is_already_subscribed() => return Err(error),
                _ => {}
            }
        }
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(|error| translate(WHAT, error))?;
        MessageStream::for_match_rule(rule, &self.connection, None).await.map_err(|error| translate(WHAT, error))
    }
}

fn read<R: DeserializeOwned + Type>(what: &str, message: &Message) -> Result<R, SystemdError> {
    message
        .body()
        .deserialize()
        .map_err(|error| SystemdError::Unreadable { what: what.to_owned(), why: error.to_string() })
}

fn translate(what: &str, error: zbus::Error) -> SystemdError {
    match error {
        zbus::Error::MethodError(name, message, _) => SystemdError::Refused {
            what: what.to_owned(),
            name: name.to_string(),
            message: message.unwrap_or_else(|| "no reason given".to_owned()),
        },
        zbus::Error::FDO(error) => SystemdError::Refused {
            what: what.to_owned(),
            name: zbus::DBusError::name(&*error).to_string(),
            message: zbus::DBusError::description(&*error).unwrap_or("no reason given").to_owned(),
        },
        other => SystemdError::Unreadable { what: what.to_owned(), why: other.to_string() },
    }
}
