// File: status.h
//
// Moved: include status/table.h or status/prometheus.h. This one goes with 0.3.

#ifndef KEYROTATOR_STATUS_H_
#define KEYROTATOR_STATUS_H_

#include "keyrotator/status/prometheus.h"  // IWYU pragma: export
#include "keyrotator/status/table.h"       // IWYU pragma: export

#endif  // KEYROTATOR_STATUS_H_
