//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::json::{parse, text};
use super::{FieldError, InterfaceName};

/// A route of the container, in the main table. Everything in it is of one family, IPv4 or IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RouteJson", into = "RouteJson")]
pub struct Route {
    /// Where it leads; all of the family (0.0.0.0/0, ::/0) makes it the default route.
    pub destination: IpNet,
    /// The address that packets are sent from which have none yet. The container must have it.
    pub source: Option<IpAddr>,
    /// The next router; `None` for what is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The interface; `None` takes the one through which the gateway is reached.
    pub interface_name: Option<InterfaceName>,
}

/// `configs.Route` as libcontainer writes it; the names that its fields have in Go are read too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteJson {
    /// A network (`10.1.0.0/16`), or one address.
    #[serde(alias = "Destination", skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// An address of the container.
    #[serde(alias = "Source", skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The next router.
    #[serde(alias = "Gateway", skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// The interface's name in the container.
    #[serde(alias = "InterfaceName", alias = "interfaceName", skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
}

impl TryFrom<RouteJson> for Route {
    type Error = FieldError;

    fn try_from(json: RouteJson) -> Result<Self, FieldError> {
        let destination = read_net("destination", &json.destination)?;
        // The reference wants a mask here too, and its code none; what is left of it is the address.
        let source = read_net("source", &json.source)?.map(|net| net.addr());
        let gateway: Option<IpAddr> = parse("gateway", &json.gateway)?;
        let interface_name = parse("interface_name", &json.interface_name)?;
        let families =
            [("destination", destination.map(|net| net.addr())), ("source", source), ("gateway", gateway)];
        let mut given = families.into_iter().filter_map(|(key, address)| Some((key, address?.is_ipv6())));
        let Some((first, ipv6)) = given.next() else {
            return Err(FieldError::new(
                "destination",
                "is missing, as are source and gateway; one has to be there",
            ));
        };
        if let Some((key, _)) = given.find(|(_, other)| *other != ipv6) {
            return Err(FieldError::new(key, format!("is of another family than {first}")));
        }
        if gateway.is_none() && interface_name.is_none() {
            return Err(FieldError::new(
                "interface_name",
                "is missing, and there is no gateway that would tell it",
            ));
        }
        let everything = || match ipv6 {
            false => IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
            true => IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        // As libcontainer reads it: what is behind the mask has no meaning.
        let destination = destination.map_or_else(everything, |net| net.trunc());
        Ok(Self { destination, source, gateway, interface_name })
    }
}

impl From<Route> for RouteJson {
    fn from(route: Route) -> Self {
        Self {
            destination: route.destination.to_string(),
            source: text(route.source),
            gateway: text(route.gateway),
            interface_name: text(route.interface_name),
        }
    }
}

/// Reads an address with a prefix length, or one alone, which is a network of one.
fn read_net(key: &str, value: &str) -> Result<Option<IpNet>, FieldError> {
    if let Ok(address) = value.parse::<IpAddr>() {
        return Ok(Some(address.into()));
    }
    let problem = |_| FieldError::new(key, format!("{value:?} is not an address with a prefix length"));
    Some(value).filter(|value| !value.is_empty()).map(|value| value.parse().map_err(problem)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Route, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_route_is_read_and_written_as_libcontainer_does() {
        let text = r#"{"destination":"10.1.0.0/16","source":"10.0.0.7","gateway":"10.0.0.1","interface_name":"eth0"}"#;
        let route = read(text).unwrap();
        assert_eq!(route.destination.to_string(), "10.1.0.0/16");
        assert_eq!(serde_json::to_string(&route).unwrap(), text);
        let masked =
            read(r#"{"destination":"10.1.2.3/16","source":"10.0.0.7/24","gateway":"10.0.0.1"}"#).unwrap();
        assert_eq!((masked.destination, masked.source), (route.destination, route.source));
    }

    #[test]
    fn other_spellings_and_keys_of_others_are_taken() {
        let go = r#"{"Destination":"10.1.0.0/16","Source":"10.0.0.7","Gateway":"10.0.0.1","InterfaceName":"eth0"}"#;
        let camel = r#"{"destination":"10.1.0.0/16","source":"10.0.0.7","gateway":"10.0.0.1","interfaceName":"eth0"}"#;
        assert_eq!(read(go).unwrap(), read(camel).unwrap());
        read(r#"{"gateway":"10.0.0.1","metric":7}"#).unwrap();
    }

    #[test]
    fn what_is_omitted_is_the_familys_default() {
        let four = read(r#"{"gateway":"1.2.3.4","interface_name":"eth0"}"#).unwrap();
        assert_eq!(four.destination.to_string(), "0.0.0.0/0");
        let six = read(r#"{"gateway":"fe80::1","interface_name":"eth0"}"#).unwrap();
        assert_eq!(six.destination.to_string(), "::/0");
        assert_eq!(
            read(r#"{"destination":"10.9.9.9","gateway":"10.0.0.1"}"#).unwrap().destination.prefix_len(),
            32
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (json, said) in [
            (r#"{"interface_name":"eth0"}"#, "destination is missing"),
            (r#"{"destination":"10.0.0.0/8","gateway":"fe80::1"}"#, "gateway is of another family"),
            (r#"{"destination":"10.0.0.0/8"}"#, "interface_name is missing"),
            (r#"{"destination":"10.0.0.0/33","gateway":"10.0.0.1"}"#, "destination \"10.0.0.0/33\" is not"),
            (r#"{"gateway":"gate"}"#, "gateway \"gate\""),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.starts_with(said), "{json}: {error}");
        }
    }
}
