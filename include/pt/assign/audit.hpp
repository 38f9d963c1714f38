// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/audit_confinement.hpp"
#include "pt/assign/audit_functions.hpp"
#include "pt/assign/audit_pages.hpp"
#include "pt/assign/audit_ports.hpp"
#include "pt/assign/audit_sharing.hpp"
#include "pt/assign/audit_table_frames.hpp"
#include "pt/assign/audit_vectors.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/ownership.hpp"

/// The isolation audit: from live tables, or those of a dump, and from what the guests own, all that
/// is reachable and should not be, and the other way round. Nothing that the tables hold is trusted.
namespace pt::assign {}
