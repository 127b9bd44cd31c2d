// File: status_json.h
//
// Moved: include status/json.h. This one goes with 0.3.

#ifndef KEYROTATOR_STATUS_JSON_MOVED_H_
#define KEYROTATOR_STATUS_JSON_MOVED_H_

#include "keyrotator/status/json.h"  // IWYU pragma: export

#endif  // KEYROTATOR_STATUS_JSON_MOVED_H_
