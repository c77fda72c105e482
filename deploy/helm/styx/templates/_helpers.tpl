{{- define "styx.name" -}}
{{- if contains "styx" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-styx{{ end }}
{{- end }}

{{- define "styx.selector" -}}
app.kubernetes.io/name: styx
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "styx.labels" -}}
{{ include "styx.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: styx
{{- end }}

{{- define "styx.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* The configuration: what the chart sets, and the values of `config` over it. */}}
{{- define "styx.config" -}}
{{- $listeners := list (dict "address" ":8080") }}
{{- if .Values.tls.enabled }}
{{- $listeners = append $listeners (dict "address" ":8443" "tls" true) }}
{{- end }}
{{- $core := dict "url" .Values.coreApi.url }}
{{- if .Values.coreApi.tokenSecret }}
{{- $_ := set $core "token_file" "/etc/styx/core-api/token" }}
{{- end }}
{{- if .Values.coreApi.tlsSecret }}
{{- $_ := set $core "tls" (dict "ca" "/etc/styx/core-api-tls/ca.crt" "certificate" "/etc/styx/core-api-tls/tls.crt" "key" "/etc/styx/core-api-tls/tls.key") }}
{{- end }}
{{- $drain := dict "delay" (printf "%ds" (int .Values.drain.delay)) "timeout" (printf "%ds" (int .Values.drain.timeout)) }}
{{- $admin := dict "address" ":9901" "token_file" "/etc/styx/admin/token" }}
{{- $config := dict "listeners" $listeners "core_api" $core "admin" $admin "drain" $drain "workers" (int .Values.workers) "edge_name" "${POD_NAME:-}" }}
{{- if and .Values.tls.enabled .Values.tls.secrets }}
{{- $_ := set $config "tls" (dict "certificates" "file:/etc/styx/certificates") }}
{{- else if and .Values.tls.enabled (not .Values.coreApi.tlsSecret) }}
{{- fail "tls.enabled needs tls.secrets, or coreApi.tlsSecret for certificates of the core API" }}
{{- end }}
{{- if ge (add (int .Values.drain.delay) (int .Values.drain.timeout)) (int64 .Values.terminationGracePeriodSeconds) }}
{{- fail "terminationGracePeriodSeconds must be longer than drain.delay and drain.timeout together" }}
{{- end }}
{{- toYaml (mergeOverwrite $config .Values.config) }}
{{- end }}
