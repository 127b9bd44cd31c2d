// Failover and MakeReport are for those who compile no JSON reader, too.

#include "keyrotator/openai/failover.h"
#include "keyrotator/openai/make_report.h"

#if defined(SIMDJSON_VERSION) || defined(NLOHMANN_JSON_VERSION_MAJOR)
#error "a JSON reader is included"
#endif
