{{- define "crs-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "crs-exporter.fullname" -}}
{{- $name := include "crs-exporter.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "crs-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "crs-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* Labels of an object: (list . labels). Those that selectors use win, then those of the object. */ -}}
{{- define "crs-exporter.labels" -}}
{{- $root := index . 0 }}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- toYaml (merge (include "crs-exporter.selectorLabels" $root | fromYaml) (index . 1) $own $root.Values.commonLabels) }}
{{- end }}

{{- define "crs-exporter.serviceAccountName" -}}
{{- default (ternary (include "crs-exporter.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "crs-exporter.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{- define "crs-exporter.args" -}}
{{- range .Values.regions }}
- {{ printf "--crs.region=%s" . | quote }}
{{- end }}
{{- if ne .Values.api "auto" }}
- --crs.api={{ .Values.api }}
{{- end }}
{{- with .Values.credentials }}
{{- if and .existingSecret (not .secretIdKey) }}
- --crs.credentials-file=/etc/crs_exporter/credentials
{{- end }}
{{- with .roleArn }}
- {{ printf "--crs.role-arn=%s" . | quote }}
{{- end }}
{{- end }}
- --state.file=/var/lib/crs_exporter/state
{{- range $flag, $value := dict "external-url" (.Values.web).externalUrl "route-prefix" (.Values.web).routePrefix }}
{{- with $value }}
- {{ printf "--web.%s=%s" $flag . | quote }}
{{- end }}
{{- end }}
{{- if .Values.webConfig.existingSecret }}
- {{ printf "--web.config.file=/etc/crs_exporter_web/%s" .Values.webConfig.key | quote }}
{{- end }}
{{- /* Other objects depend on these flags: a second value would break them where nobody sees it. */ -}}
{{- $fixed := list "--crs.region" "--crs.api" "--crs.role-arn" "--state.file" "--web.config.file" "--web.external-url" "--web.listen-address" "--web.route-prefix" "--web.systemd-socket" "--web.telemetry-path" }}
{{- range .Values.extraArgs }}
{{- $flag := regexFind "^--[a-z0-9.-]+" . }}
{{- if has $flag $fixed }}
{{- fail (printf "extraArgs must not have %s: the chart has a value for it, or needs its default" $flag) }}
{{- end }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- /* The prefix of all paths, as the exporter takes it from its flags. */ -}}
{{- define "crs-exporter.prefix" -}}
{{- with (.Values.web).routePrefix | default (urlParse (default "" (.Values.web).externalUrl)).path | trimAll "/" }}/{{ . }}{{ end }}
{{- end }}

{{- /* A probe has no password and no client certificate, so with a web configuration the program checks itself. */ -}}
{{- define "crs-exporter.probe" -}}
{{- $prefix := include "crs-exporter.prefix" .root }}
{{- if .root.Values.webConfig.existingSecret -}}
exec:
  command: [/bin/crs_exporter, --healthcheck{{ with $prefix }}, --web.route-prefix={{ . }}{{ end }}]
{{- else -}}
httpGet:
  path: {{ $prefix }}{{ .path }}
  port: metrics
{{- end }}
{{ toYaml .timing }}
{{- end }}

{{- define "crs-exporter.credentialsEnv" -}}
{{- with .Values.credentials }}
{{- if .secretIdKey }}
{{- range $name, $key := dict "ID" .secretIdKey "KEY" (required "credentials.secretIdKey needs credentials.secretKeyKey" .secretKeyKey) }}
- name: TENCENTCLOUD_SECRET_{{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ required "credentials.secretIdKey needs credentials.existingSecret" $.Values.credentials.existingSecret | quote }}
      key: {{ $key | quote }}
{{- end }}
{{- with .tokenKey }}
- name: TENCENTCLOUD_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.credentials.existingSecret | quote }}
      key: {{ . | quote }}
{{- end }}
{{- else if or .secretKeyKey .tokenKey }}
{{- fail "credentials.secretKeyKey and credentials.tokenKey need credentials.secretIdKey" }}
{{- end }}
{{- end }}
{{- end }}
