// File: http.h
//
// Moved: include http/message.h, http/transport.h. This one goes with 0.3.

#ifndef KEYROTATOR_HTTP_H_
#define KEYROTATOR_HTTP_H_

#include "keyrotator/http/message.h"    // IWYU pragma: export
#include "keyrotator/http/transport.h"  // IWYU pragma: export

#endif  // KEYROTATOR_HTTP_H_
