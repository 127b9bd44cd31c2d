-- POSTs $BODY; with $PACE each of 20 connections waits 20 ms between requests,
-- which is 1,000 a second and a little less, as answers take their time.
wrk.method = "POST"
wrk.body = os.getenv("BODY")
wrk.headers["Content-Type"] = "application/json"
if os.getenv("PACE") then
  function delay() return 20 end
end
