// File: yaml.h
//
// Moved: include config/yaml.h. This one goes with 0.3.

#ifndef KEYROTATOR_YAML_H_
#define KEYROTATOR_YAML_H_

#include "keyrotator/config/yaml.h"  // IWYU pragma: export

#endif  // KEYROTATOR_YAML_H_
