// File: yaml.h
//
// Moved: include config/yaml.h. This one goes with 0.3.

#ifndef KEYROTATOR_YAML_H_
#define KEYROTATOR_YAML_H_

#include "keyrotator/config/make_key_rotator.h"  // IWYU pragma: export
#include "keyrotator/config/yaml.h"              // IWYU pragma: export

#endif  // KEYROTATOR_YAML_H_
