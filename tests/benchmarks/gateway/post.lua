-- POSTs $BODY; with $PACE each of 20 connections waits 20 ms on average between
-- requests, which is a little less than 1,000 a second. Not 20 ms each: all 20
-- would come at once then, and the last would wait for the others.
wrk.method = "POST"
wrk.body = os.getenv("BODY")
wrk.headers["Content-Type"] = "application/json"
if os.getenv("PACE") then
  function delay() return math.random(0, 40) end
end
