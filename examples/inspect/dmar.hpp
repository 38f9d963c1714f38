// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "output.hpp"

#include <string>

namespace inspect {

/// `pt-inspect dmar`: a DMAR table, for people and for programs. Throws a failure that names the
/// file and the offset.
std::string dmar_text(const std::string& file, const painter& paint);
std::string dmar_json(const std::string& file);

} // namespace inspect
