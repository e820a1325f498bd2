//! Networks: interfaces, addresses and routes as a container sees them, and what is left on the host.
//!
//! Each test has a network namespace of its own for the host, so that the machine's own network is never touched.

mod devices;
mod failures;
mod host;
mod pairs;

pub const TESTS: &[(&str, fn())] = &[
    ("a_pair_has_everything_that_is_configured", pairs::a_pair_has_everything_that_is_configured),
    ("a_pair_carries_data_through_its_bridge", pairs::a_pair_carries_data_through_its_bridge),
    ("what_goes_through_a_pair_is_counted", pairs::what_goes_through_a_pair_is_counted),
    ("a_pair_of_which_nothing_is_said_is_the_kernels", pairs::a_pair_of_which_nothing_is_said_is_the_kernels),
    ("a_router_that_no_address_leads_to_is_reached", pairs::a_router_that_no_address_leads_to_is_reached),
    ("the_loopback_interface_has_further_addresses", pairs::the_loopback_interface_has_further_addresses),
    ("routes_lead_where_they_are_to_lead", pairs::routes_lead_where_they_are_to_lead),
    ("a_user_namespace_has_a_network_too", pairs::a_user_namespace_has_a_network_too),
    ("a_joined_network_is_left_as_it_was", pairs::a_joined_network_is_left_as_it_was),
    ("a_container_without_networks_has_no_notes", pairs::a_container_without_networks_has_no_notes),
    ("a_device_of_the_host_comes_back_as_it_was", devices::a_device_of_the_host_comes_back_as_it_was),
    ("a_device_that_was_renamed_comes_back", devices::a_device_that_was_renamed_comes_back),
    ("a_device_waits_when_its_name_is_taken", devices::a_device_waits_when_its_name_is_taken),
    ("a_net_device_keeps_its_addresses", devices::a_net_device_keeps_its_addresses),
    ("a_net_device_gets_a_name_by_a_template", devices::a_net_device_gets_a_name_by_a_template),
    ("a_net_device_belongs_to_the_namespace", devices::a_net_device_belongs_to_the_namespace),
    ("a_hook_that_fails_leaves_the_host_as_it_was", failures::a_hook_that_fails_leaves_the_host_as_it_was),
    ("a_network_that_fails_half_way_is_undone", failures::a_network_that_fails_half_way_is_undone),
    ("a_killed_creation_is_undone_by_delete", failures::a_killed_creation_is_undone_by_delete),
    ("a_bridge_that_is_missing_is_named", failures::a_bridge_that_is_missing_is_named),
    ("a_name_that_is_taken_is_named", failures::a_name_that_is_taken_is_named),
    ("the_hosts_own_network_is_not_changed", failures::the_hosts_own_network_is_not_changed),
];
