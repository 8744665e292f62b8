// Names of builtin operators, for messages.
#pragma once

#include <cstdint>

namespace bdd {

// The schema's name of an operator that occurs in networks; "operator" for others.
const char* OperatorName(int32_t code);

}  // namespace bdd
