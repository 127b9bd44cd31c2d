// File: transport/curl.h
//
// Moved: include http/curl.h. This one goes with 0.3.

#ifndef KEYROTATOR_TRANSPORT_CURL_H_
#define KEYROTATOR_TRANSPORT_CURL_H_

#include "keyrotator/http/curl.h"  // IWYU pragma: export

#endif  // KEYROTATOR_TRANSPORT_CURL_H_
